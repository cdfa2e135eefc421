server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "0.0.0.0:25"
  tls     = "off"

  chain {
    ratelimit {
      key   = "ip"
      limit = "10/1m"
    }
    deliver {}
  }
}
listener "smtp" "two" {
  address = "127.0.0.1:2525"
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
