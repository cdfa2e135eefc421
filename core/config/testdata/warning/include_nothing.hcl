include = ["nothing.d/*.hcl", "once.d/a.hcl", "once.d/*.hcl"]
server {
  hostname = "mx.example.org"
}
