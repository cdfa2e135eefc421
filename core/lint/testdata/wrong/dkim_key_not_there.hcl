server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "smtp" "submission" {
  address = "127.0.0.1:465"
  tls     = "implicit"
  auth    = "required"

  chain {
    password {}
    sender_login {}
    dkim_sign {}
    deliver {}
  }
}
domain "example.org" {
  dkim {
    selector = "s2026"
    key_file = "not-there.pem"
  }
}
