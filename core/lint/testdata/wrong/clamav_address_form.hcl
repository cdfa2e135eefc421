server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    clamav {
      address = "127.0.0.1:3310"
    }
    deliver {}
  }
}
domain "example.org" {}
