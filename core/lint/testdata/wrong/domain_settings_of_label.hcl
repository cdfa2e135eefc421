server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    ratelimit "recipients" {
      key   = ["ip", "rcpt"]
      limit = "50/1h"
    }
    deliver {}
  }
}
domain "example.org" {
  settings "ratelimit" {
    limit = "200/1h"
  }
}
