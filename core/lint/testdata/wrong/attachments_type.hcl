server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    attachments {
      types = ["application/x-virus"]
    }
    deliver {}
  }
}
domain "example.org" {}
