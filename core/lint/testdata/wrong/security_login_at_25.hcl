server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "smtp" "mx" {
  address = "0.0.0.0:25"
  tls     = "starttls"
  auth = "optional"
  chain {
    bruteforce {}
    ratelimit {
      key   = "ip"
      limit = "100/1h"
    }
    password {}
    sender_login {}
    deliver {}
  }
}
domain "example.org" {}
