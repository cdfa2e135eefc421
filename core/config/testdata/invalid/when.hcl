server {
  hostname = "mx.example.org"
}
listener "smtp" {
  address = "192.0.2.1:25"
  chain {
    ratelimit "early" {
      key  = "ip"
      when = tx.rcpt == "alice@example.org"
    }
    ratelimit "header" {
      key  = "ip"
      when = tx.header["Subject"] == ""
    }
    scan "names" {
      when = tx.form == "" || user == "" || tx == "x" || tx.header == "" || tx.user.name == ""
    }
    scan "types" {
      when = tx.tls == "true" || tx.size > "big" || tx.helo < "b" || (tx.user && tx.tls) || !tx.helo
    }
    scan "text" {
      when = tx.user
    }
    scan "arguments" {
      when = matches(tx.helo, tx.from) || file(tx.helo) == "" || cidr_contains(tx.ip, tx.ip) || tx.header[tx.helo] == ""
    }
    scan "pattern" {
      when = matches(tx.helo, "(") || cidr_contains("192.0.2", tx.ip) || cidr_contains("192.0.2.5/24", tx.ip)
    }
    scan "null" {
      when = null
    }
  }
}
