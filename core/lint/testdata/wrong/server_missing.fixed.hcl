server {
  hostname = "mx1.example.org"
}
log {}
domain "example.org" {}
