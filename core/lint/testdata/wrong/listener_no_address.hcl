server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  tls = "off"
  chain {
    deliver {}
  }
}
domain "example.org" {}
