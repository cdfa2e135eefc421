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
    sender_login {
      allow = ["alice@example.org"]
    }
    deliver {}
  }
}
domain "example.org" {}
