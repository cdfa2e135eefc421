variable "password" {
  default   = "hunter2 swordfish"
  sensitive = true
  type      = number
}
variable "level" {
  sensitive = true
  default   = <<-TEXT
    first secret line
    second secret line
  TEXT
}
variable "key" {
  sensitive = true
  default   = ["secret-a", "secret-b"]
}
variable "doubt" {
  sensitive = "perhaps"
  default   = "doubtful secret"
}
server {
  hostname = "mx.example.org"
  limit    = var.level
  trusted  = var.key
  weights  = { (var.doubt) = "x" }
}
log {
  level  = var.level
  output = [env("PASSWORD")]
}
listener "smtp" {
  address = "192.0.2.1:25"
  chain {
    scan {
      when = matches(tx.helo, "(${var.level}") || jsondecode(var.level)
    }
  }
}
