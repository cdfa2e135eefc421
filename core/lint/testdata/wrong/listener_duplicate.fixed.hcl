server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    deliver {}
  }
}
listener "smtp" "two" {
  address = "127.0.0.1:2525"
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
