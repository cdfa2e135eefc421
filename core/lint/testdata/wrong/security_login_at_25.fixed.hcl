server {
  hostname = "mx1.example.org"
}
tls "self_signed" {}
listener "smtp" "mx" {
  address = "0.0.0.0:25"
  tls     = "starttls"

  chain {
    ratelimit {
      key   = "ip"
      limit = "100/1h"
    }
    deliver {}
  }
}
domain "example.org" {}
