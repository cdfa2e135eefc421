hostname = "mx.example.org"
level    = "info"
listener "smtp" "mx" {
  address  = "192.0.2.1:25"
  sessions = 5
  chain {
    scan "synonyms" {
      when = tx.sender == "" || tx.Recipient == "" || sender == "" || tx.subject == "" || tx.arc == "pass"
    }
  }
}
