listener {
}
listener "" "mx" {
  address = null
}
domain "example.org" {}
