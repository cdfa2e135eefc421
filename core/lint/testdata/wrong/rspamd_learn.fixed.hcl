server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    rspamd {
      address    = "tcp:127.0.0.1:11333"
      controller = "tcp:127.0.0.1:11334"
      learn      = true
    }
    deliver {}
  }
}
domain "example.org" {}
