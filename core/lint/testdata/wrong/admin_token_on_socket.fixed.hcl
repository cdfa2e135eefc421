server {
  hostname = "mx1.example.org"
}
listener "admin" "local" {
  address = "unix:admin.sock"
}
domain "example.org" {}
