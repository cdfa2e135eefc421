server {
  hostname = "mx1.example.org"
}
trace {
  max_size = 1000000000
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
