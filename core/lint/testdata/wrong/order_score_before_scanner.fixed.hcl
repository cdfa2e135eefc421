server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    spamassassin {
      address = "tcp:127.0.0.1:783"
    }
    score {}
    deliver {}
  }
}
domain "example.org" {}
