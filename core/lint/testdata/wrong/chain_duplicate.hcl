server {
  hostname = "mx1.example.org"
}
chain "a" {
  spf {}
}
chain "a" {
  rdns {}
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    use "a" {}
    deliver {}
  }
}
domain "example.org" {}
