server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"
  proxy_protocol {
    from = ["192.0.2.10"]
  }
  chain {
    deliver {}
  }
}
domain "example.org" {}
