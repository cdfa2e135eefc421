package smtp

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/config"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body  string
		certificate bool
		want        []string // severity, attribute
	}{
		{"defaults", "", true, nil},
		{"no certificate", "", false, []string{"warning tls"}},
		{"no certificate wanted", `tls = "off"`, false, nil},
		{"required without a certificate", `tls = "required"`, false, []string{"error tls"}},
		{"implicit without a certificate", `tls = "implicit"`, false, []string{"error tls"}},
		{"login without a certificate", `auth = "optional"`, false, []string{"error tls"}},
		{"login in the clear", "auth = \"required\"\ntls = \"off\"", true, []string{"error auth"}},
		{"more recipients than commands", "max_recipients = 1000", true, []string{"warning limits.commands"}},
		{"more connections of a network than in all", "limits { connections = 10 }", true, []string{"warning limits.connections_per_network"}},
		{"message that does not fit", "limits { spool = \"49MB\" }", true, []string{"warning limits.spool"}},
		{"delay where nobody waits", "greet_delay = \"5s\"\ntls = \"implicit\"", true, []string{"warning greet_delay"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newListener(t, options{body: test.body})
			if !test.certificate {
				k.listener.tls = nil
			}
			var got []string
			for _, p := range k.listener.Validate() {
				severity := "error"
				if p.Severity == config.Warning {
					severity = "warning"
				}
				got = append(got, severity+" "+p.Attribute)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoAddress(t *testing.T) {
	t.Parallel()
	none := newListener(t, options{})
	none.listener.Address = nil
	if len(none.listener.Validate()) != 1 {
		t.Error("a listener without an address is valid")
	}
}

// TestDefaults pins that blocks that the file leaves out have their defaults too.
func TestDefaults(t *testing.T) {
	t.Parallel()
	l := newListener(t, options{body: "limits { errors = 3 }"}).listener
	if l.Limits.Errors != 3 || l.Limits.Connections != 1000 || l.Timeouts.Command.String() != "5m0s" || l.MaxRecipients != 100 || l.submission() {
		t.Errorf("settings: %+v, limits %+v, timeouts %+v", l.Settings, *l.Limits, *l.Timeouts)
	}
	if !newListener(t, options{body: "auth = \"required\"\ntls = \"implicit\""}).listener.submission() {
		t.Error("a listener where users must log in is not for submission")
	}
	if strings.Join(l.Sockets(), " ") != "127.0.0.1:0" {
		t.Errorf("sockets %v", l.Sockets())
	}
}
