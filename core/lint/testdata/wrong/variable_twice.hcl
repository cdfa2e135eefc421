server {
  hostname = "mx1.example.org"
}
variable "a" {
  default = "1"
}
variable "a" {
  default = "2"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
