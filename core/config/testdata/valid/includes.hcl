server {
  hostname = var.host
}
include = ["includes.d/*.hcl"]
listener "last" {
  address = "192.0.2.9:25"
}
