
server {
  hostname = "mx.example.test"
}

listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    probe "one" { text = "first" }
    probe "two" {}
    sink {}
  }
}
domain "example.test" {
  settings "one" {
    text = "mine"
  }
  settings "two" {
    mode = "monitor"
  }
}
# ours
domain "own.test" {
  settings "one" {
    text = "mine"
    when = tx.rcpt != "x@own.test"
  }
}
domain "chain.test" {
  chain "in" {
    inherit {}
    probe "three" { text = "third" }
    sink {}
  }
  settings "three" {
    enabled = false
  }
}

domain "*" {
  settings "one" {
    text = "all"
  }
}
