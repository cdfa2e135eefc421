server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    clamav {
      address = "unix:/run/clamav/clamd.ctl"
      timeout = "2m"
    }
    spamassassin {
      address = "tcp:127.0.0.1:783"
      timeout = "2m"
    }
    deliver {}
  }
}
domain "example.org" {}
