server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "imap" "imaps" {
  address = "127.0.0.1:993"
}
domain "example.org" {}
