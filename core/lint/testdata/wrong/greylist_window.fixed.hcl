server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    greylist {
      delay        = "5m"
      retry_window = "2d"
    }
    deliver {}
  }
}
domain "example.org" {}
