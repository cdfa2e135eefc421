server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "smtp" "submission" {
  address = "127.0.0.1:465"
  tls     = "implicit"
  auth    = "required"

  chain {
    bruteforce {
      attempts     = 5
      day_attempts = 10
    }
    password {}
    sender_login {}
    deliver {}
  }
}
domain "example.org" {}
