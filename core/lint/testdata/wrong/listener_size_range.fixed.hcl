server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"
  max_message_size = "50MB"
  limits {
    spool = "2GB"
  }
  chain {
    deliver {}
  }
}
domain "example.org" {}
