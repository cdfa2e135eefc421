server {
  hostname   = mx.example.org
  data_dir   = env("NOT_SET")
  postmaster = var.postmaster
  secret     = file("no-such-file")
  trusted    = cidr("192.0.2.0/24")
  sessions   = tx.size
  limit      = trimspace()
}
log {
  level = debug
}
