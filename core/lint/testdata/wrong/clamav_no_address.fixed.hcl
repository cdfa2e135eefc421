server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    clamav {
      address = "unix:/run/clamav/clamd.ctl"
    }
    deliver {}
  }
}
domain "example.org" {}
