server {
  hostname = "mx1.example.org"
}
dns {
  servers = ["192.0.2.53"]
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
