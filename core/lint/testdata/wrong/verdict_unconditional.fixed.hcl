server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    verdict "partner" {
      when   = tx.from_domain == "example.net"
      action = "discard"
    }
    deliver {}
  }
}
domain "example.org" {}
