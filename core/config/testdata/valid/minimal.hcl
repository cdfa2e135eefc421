server {
  hostname = "mx.example.org"
}
