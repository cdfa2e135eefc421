server {
  hostname = "mx.example.org",
  data_dir = "/srv"
}
listener "smtp" {
  address = [
