server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    spf {
      exempt = ["2001:db8::/32"]
    }
    deliver {}
  }
}
domain "example.org" {}
