server {
  hostname = "mx1.example.org"
  data_dir = "/srv/a"
  hostname = "mx2.example.org"
}

server {
  hostname = "mx3.example.org"
}
listener "smtp" {
  address = "192.0.2.1:25"
  limits {
    sessions = 1
  }
  limits {
    sessions = 2
  }
}
