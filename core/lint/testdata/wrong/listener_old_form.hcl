server {
  hostname = "mx1.example.org"
}
smtp {
  address = "127.0.0.1:25"
}
domain "example.org" {}
