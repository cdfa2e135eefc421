server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    blocklist {
      networks = ["192.0.2.1-192.0.2.9"]
    }
    deliver {}
  }
}
domain "example.org" {}
