server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "admin" "local" {
  address = "unix:admin.sock"
}
domain "example.org" {}
