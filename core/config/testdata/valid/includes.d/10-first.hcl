listener "first" {
  address = "192.0.2.1:25"
}
include = "nested/second.hcl"
