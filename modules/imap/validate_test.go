package imap_test

import (
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core"
	_ "github.com/mox-like/mox-like/modules/password"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, listener, tls string
		want                string // in the only diagnostic; "" for none
	}{
		{"defaults", `address = ["[::]:993"]`, `tls "self_signed" {}`, ""},
		{"all settings", `
			address                     = ["[::]:143", "unix:imap.sock"]
			tls                         = "required"
			max_connections             = 10
			max_connections_per_network = 5
			max_message_size            = "10MB"
			idle_timeout                = "1h"
			command_timeout             = "30s"
			login_timeout               = "2m"
			max_auth_failures           = 5
			proxy_protocol {
			  from = ["192.0.2.1/32", "2001:db8::/32"]
			}`, `tls "self_signed" {}`, ""},
		{"no certificate", `address = ["[::]:993"]`, "", `tls = "implicit" needs a certificate`},
		{"no TLS", "address = [\"[::]:143\"]\ntls = \"off\"", "", "nobody can log in here"},
		{"implicit on 143", `address = ["[::]:143"]`, `tls "self_signed" {}`, "clients expect STARTTLS on port 143"},
		{"starttls on 993", "address = [\"[::]:993\"]\ntls = \"starttls\"", `tls "self_signed" {}`, "clients expect TLS from the first byte on port 993"},
		{"limits", "address = [\"[::]:993\"]\nmax_connections = 5\nmax_connections_per_network = 6", `tls "self_signed" {}`, "is 6, more than max_connections (5)"},
		{"no proxies", "address = [\"[::]:993\"]\nproxy_protocol {\n  from = []\n}", `tls "self_signed" {}`, "no proxy is listed"},
		{"short idle", "address = [\"[::]:993\"]\nidle_timeout = \"5m\"", `tls "self_signed" {}`, "30m"},
		{"no address", "address = []", `tls "self_signed" {}`, "a listener needs an address"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			source := "server {\n  hostname = \"mx.example.test\"\n}\n" + c.tls + "\nlistener \"imap\" \"imap\" {\n" + c.listener + "\n  chain {\n    password {}\n  }\n}\n"
			ds, _ := core.Validate(core.Options{ConfigFile: "test.hcl", Source: []byte(source)})
			var got []string
			for _, d := range ds {
				if strings.Contains(d.Code, "imap") || c.want != "" && strings.Contains(d.Summary+d.Detail, c.want) {
					got = append(got, d.Summary+" "+d.Detail)
				}
			}
			switch {
			case c.want == "" && ds.HasErrors():
				t.Errorf("errors: %v", ds.Err())
			case c.want == "" && len(got) > 0:
				t.Errorf("got %q, want nothing", got)
			case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
				t.Errorf("got %q, want %q; all: %v", got, c.want, ds)
			}
		})
	}
}
