server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    verdict "partner" {
      action = "discard"
    }
    deliver {}
  }
}
domain "example.org" {}
