server {
  hostname = "mx1.example.org"
}
variable "a" {
  default = "x"
}
variable "b" {
  default = var.a
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    deliver {}
  }
}
domain "example.org" {}
