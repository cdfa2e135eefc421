server {
  hostnam  = "mx.example.org"
  sesions  = 5
  colour   = "blue"
}
sever {}
listner "smtp" {}
listener "smtp" "mx" "more" {
  address = "192.0.2.1:25"
  limits "x" {
    session = 3
  }
  limit = {}
  max_size {}
  chain {
    ratelimt {}
  }
}
log "debug" {
  levels = "info"
}
