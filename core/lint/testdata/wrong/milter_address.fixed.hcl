server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    milter {
      address = "tcp:127.0.0.1:8891"
    }
    deliver {}
  }
}
domain "example.org" {}
