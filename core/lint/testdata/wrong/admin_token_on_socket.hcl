server {
  hostname = "mx1.example.org"
}
listener "admin" "local" {
  address = "unix:admin.sock"
  token "ops" {
    secret = "0123456789abcdef0123456789abcdef"
  }
}
domain "example.org" {}
