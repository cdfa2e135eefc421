server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "[::]:25"
  tls     = "off"

  chain {
    ratelimit {
      key   = "ip"
      limit = "10/1m"
    }
    deliver {}
  }
}
domain "example.org" {}
