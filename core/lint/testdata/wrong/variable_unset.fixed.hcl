server {
  hostname = "mx1.example.org"
}
variable "relay" {
  default = "192.0.2.1"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
