server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "mx1.example.org:25"
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
