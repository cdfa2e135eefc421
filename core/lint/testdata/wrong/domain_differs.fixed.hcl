server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    attachments {}
    deliver {}
  }
}
domain "example.org" {}
domain "example.net" {
  # validate:ignore domain/differs: they get programs by mail and know it
  settings "attachments" {
    action = "tag"
  }
}
