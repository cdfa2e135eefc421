server {
  hostname = "mx1.example.org"
}
log {
  level = "debug"
}
log {
  format = "json"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
