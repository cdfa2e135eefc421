server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "admin" "local" {
  address = "127.0.0.1:8443"
}
domain "example.org" {}
