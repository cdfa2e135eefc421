listener "second" {
  address = trimspace(file("host.txt"))
}
