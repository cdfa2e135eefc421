server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    dnsbl {
      list "list.example.net" {
        kind = "white"
      }
    }
    deliver {}
  }
}
domain "example.org" {}
