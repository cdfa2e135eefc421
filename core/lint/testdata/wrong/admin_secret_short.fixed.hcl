server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "admin" "local" {
  address = "127.0.0.1:8443"
  token "ops" {
    secret = env("ADMIN_TOKEN", "0123456789abcdef0123456789abcdef")
  }
}
domain "example.org" {}
