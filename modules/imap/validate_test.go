package imap_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/modules/imap"
	_ "github.com/mox-like/mox-like/modules/password"
)

// TestDefaults: what the file leaves out has its defaults, with and without the
// block around it.
func TestDefaults(t *testing.T) {
	t.Parallel()
	limits := imap.Limits{Connections: 2000, ConnectionsPerNetwork: 50, AuthFailures: 3, Spool: 1e9}
	timeouts := imap.Timeouts{
		Login: time.Minute, Idle: 30 * time.Minute, Command: time.Minute,
		Work: 2 * time.Minute, Write: time.Minute, Handshake: 30 * time.Second, Stage: time.Minute,
	}
	fewer, longer := limits, timeouts
	fewer.Connections, longer.Idle = 60, time.Hour
	for _, c := range []struct {
		name, blocks string
		limits       imap.Limits
		timeouts     imap.Timeouts
	}{
		{"no blocks", "", limits, timeouts},
		{"empty blocks", "limits {}\ntimeouts {}", limits, timeouts},
		{"one setting", "limits { connections = 60 }\ntimeouts { idle = \"1h\" }", fewer, longer},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			source := "listener \"imap\" \"imaps\" {\naddress = \"127.0.0.1:0\"\ntls = \"off\"\n" + c.blocks + "\n}\n"
			l := coretest.Load[*imap.Listener](t, coretest.New(t, coretest.Options{}), "listener.imap", source)
			if diff := cmp.Diff(c.limits, *l.Limits); diff != "" {
				t.Errorf("limits (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.timeouts, *l.Timeouts); diff != "" {
				t.Errorf("timeouts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, listener, tls string
		want                string // in the only diagnostic; "" for none
	}{
		{"defaults", `address = ["[::]:993"]`, `tls "self_signed" {}`, ""},
		{"all settings", `
			address          = ["[::]:143", "unix:imap.sock"]
			tls              = "required"
			max_message_size = "10MB"
			limits {
			  connections             = 10
			  connections_per_network = 5
			  auth_failures           = 5
			}
			timeouts {
			  login     = "2m"
			  idle      = "1h"
			  command   = "30s"
			  work      = "1m"
			  write     = "30s"
			  handshake = "10s"
			  stage     = "30s"
			}
			proxy_protocol {
			  from = ["192.0.2.1", "2001:db8::/32"]
			}`, `tls "self_signed" {}`, ""},
		{"no certificate", `address = ["[::]:993"]`, "", `tls = "implicit" needs a certificate`},
		{"no TLS", "address = [\"[::]:143\"]\ntls = \"off\"", "", "nobody can log in here"},
		{"implicit on 143", `address = ["[::]:143"]`, `tls "self_signed" {}`, "clients expect STARTTLS on port 143"},
		{"starttls on 993", "address = [\"[::]:993\"]\ntls = \"starttls\"", `tls "self_signed" {}`, "clients expect TLS from the first byte on port 993"},
		{"limits", "address = [\"[::]:993\"]\nlimits { connections = 5 }", `tls "self_signed" {}`, "connections_per_network = 50 has no effect, since connections = 5 is less"},
		{"no proxies", "address = [\"[::]:993\"]\nproxy_protocol {\n  from = []\n}", `tls "self_signed" {}`, "no proxy is listed"},
		{"short idle", "address = [\"[::]:993\"]\ntimeouts { idle = \"5m\" }", `tls "self_signed" {}`, "30m"},
		{"no address", "address = []", `tls "self_signed" {}`, "a listener needs an address"},
		{"no room for one", "address = [\"[::]:993\"]\nmax_message_size = \"600MB\"", `tls "self_signed" {}`, "a message of max_message_size = 600MB does not fit"},
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
