server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    blocklist {
      networks = ["192.0.2.0/24"]
    }
    deliver {}
  }
}
domain "example.org" {}
