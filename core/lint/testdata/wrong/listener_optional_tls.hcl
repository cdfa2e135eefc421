server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "smtp" "submission" {
  address = "127.0.0.1:587"
  tls     = "starttls"
  auth    = "required"

  chain {
    password {}
    sender_login {}
    deliver {}
  }
}
domain "example.org" {}
