variable "host" {
  default = trimspace(file("nested/host.txt"))
}
listener "third" {
  address = "192.0.2.3:25"
}
