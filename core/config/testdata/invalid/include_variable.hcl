variable "folder" { default = "conf.d" }
include = ["${var.folder}/*.hcl"]
