server {
  hostname   = ["a", "b"]
  postmaster = "nobody"
  trusted    = ["192.0.2.0/24", "192.0.2.300/24", "2001:db8::/32"]
  sessions   = 1.5
  weights    = { spf = 1, dkim = "heavy" }
  limit      = "100 per hour"
}
log {
  level  = "inof"
  output = ["stdout", "file"]
}
listener "smtp" {
  address  = 25
  max_size = "2TB"
  timeout  = 30
  limits {
    sessions = true
  }
  chain {
    ratelimit {
      key   = "ips"
      limit = "0/1h"
      burst = -1
    }
  }
}
