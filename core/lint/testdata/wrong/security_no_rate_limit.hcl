server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "0.0.0.0:25"
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
