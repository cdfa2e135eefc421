server {
  hostname = "mx1.example.org"
}
listener "admin" "local" {
  address = "unix:admin.sock"
  chain {
    deliver {}
  }
}
domain "example.org" {}
