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
    totp {}
    sender_login {}
    deliver {}
  }
}
listener "imap" "imaps" {
  address = "127.0.0.1:993"

  chain {
    password {}
    totp {}
  }
}
domain "example.org" {}
