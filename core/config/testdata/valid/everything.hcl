# Every kind of setting, with variables and functions.
variable "port" {
  type        = number
  default     = 25
  description = "where to listen"
}

variable "networks" {
  type    = "list(string)"
  default = ["192.0.2.0/24", "2001:db8::/32"]
}

variable "zones" {
  default = []
}

variable "secret" {
  default   = env("PASSWORD")
  sensitive = true
}

server {
  hostname   = env("HOST")
  data_dir   = env("DATA_DIR", "/srv/mail")
  postmaster = lower("Postmaster@Example.ORG")
  trusted    = concat(var.networks, ["198.51.100.7/32"])
  secret     = var.secret
  sessions   = var.port
  weights    = { "spf" = 1.5, dkim = -2 }
  limit      = "10/m"
}

log {
  level  = null # as if it were not there
  output = "journal"
}

listener "smtp" "mx" {
  address  = ["0.0.0.0:${var.port}", "[::]:${var.port}"]
  max_size = "25MB"
  timeout  = "1h30m"
  limits {
    sessions = 20
  }
  chain {
    ratelimit "by-ip" {
      key  = "ip"
      when = !cidr_contains("192.0.2.0/24", tx.ip)
    }
    scan {
      when = tx.size < "1MB" && tx.header["X-Scanned"] == ""
    }
    deliver {}
  }
}

listener "imap" {
  address = split(",", "192.0.2.1:143,192.0.2.2:143")
}

listener "dnsbl" {
  address = var.zones
}

domain "example.org" {}
domain "example.net" {
  catch_all = "carol"
}
