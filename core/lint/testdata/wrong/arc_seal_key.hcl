server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    arc_seal {
      domain   = "example.org"
      selector = "s2026"
      file     = "not-there.pem"
    }
    deliver {}
  }
}
domain "example.org" {}
