server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    spf {
      exempt = ["192.0.2.0/33"]
    }
    deliver {}
  }
}
domain "example.org" {}
