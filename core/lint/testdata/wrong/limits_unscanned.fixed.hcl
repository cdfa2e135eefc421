server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    clamav {
      address   = "unix:/run/clamav/clamd.ctl"
      max_size  = "5MB"
      too_large = "quarantine"
    }
    deliver {}
  }
}
domain "example.org" {}
