server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = []
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
