variable "one" { default = "secret one", sensitive = true }
variable "two" {
  sensitive = true
  default   = "secret two" + ,
}
variable "open" {
  default = "shown" 5
}
variable "three" {
  default = "secret three
  sensitive = true
}
