log {}
domain "example.org" {}
