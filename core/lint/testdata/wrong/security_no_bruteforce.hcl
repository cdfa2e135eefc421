server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "imap" "imaps" {
  address = "0.0.0.0:993"

  chain {
    password {}
  }
}
domain "example.org" {}
