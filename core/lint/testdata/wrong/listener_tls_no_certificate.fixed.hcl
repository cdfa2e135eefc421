server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "required"

  chain {
    deliver {}
  }
}
domain "example.org" {}
