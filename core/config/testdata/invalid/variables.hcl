variable "nothing" {}
variable "twice" { default = 1 }
variable "twice" { default = 2 }
variable "port" {
  type    = bool
  default = true
}
variable "kind" { type = text }
variable "list" {
  type    = list(string)
  default = 5
}
variable "chained" { default = var.twice }
variable "mistake" { defualt = 1 }
server {
  hostname = var.nothing
  data_dir = var.nothin
  secret   = "${var.nothing}-${var["twice"]}"
}
