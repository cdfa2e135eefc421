server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    spf {}
    dkim_verify {}
    arc_verify {
      trusted = ["lists.example.org"]
    }
    dmarc {}
    deliver {}
  }
}
domain "example.org" {}
