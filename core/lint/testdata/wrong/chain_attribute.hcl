server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    timeout = "10s"
    spf {}
    deliver {}
  }
}
domain "example.org" {}
