variable "scan" {
  default = false
}
server {
  hostname = "mx.example.org"
}
listener "smtp" {
  address = "192.0.2.1:25"
  chain {
    ratelimit {
      key  = "ip"
      when = 1 == 2
    }
    scan {
      when = var.scan # a switch, no slip
    }
    deliver {
      when = tx.tls || true
    }
  }
}
