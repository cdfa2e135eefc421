server {
  hostname = "mx1.example.org"
}
listener "imap" "imaps" {
  address = "127.0.0.1:993"
  tls = "off"
  chain {
    password {}
  }
}
domain "example.org" {}
