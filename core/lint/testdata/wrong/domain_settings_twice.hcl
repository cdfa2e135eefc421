server {
  hostname = "mx1.example.org"
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    greylist {}
    deliver {}
  }
}
domain "example.org" {
  settings "greylist" {
    delay = "10m"
  }
  settings "greylist" {
    expire = "10d"
  }
}
