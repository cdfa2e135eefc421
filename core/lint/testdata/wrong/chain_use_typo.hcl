server {
  hostname = "mx1.example.org"
}
chain "checks" {
  spf {}
}
listener "smtp" "mx" {
  address = "127.0.0.1:25"
  tls     = "off"

  chain {
    use "cheks" {}
    deliver {}
  }
}
domain "example.org" {}
