package daemon_test

import (
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/test/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listens tells whether somebody does.
func listens(at backend.Address) bool {
	conn, err := net.Dial(at.Network, at.Name)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// TestDaemons has each daemon run, end by a crash, and run again where it was.
func TestDaemons(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]daemon.Kind{
		"clamd":  daemon.Clamd{},
		"spamd":  daemon.Spamd{Settings: "use_bayes 0\n"},
		"rspamd": daemon.Rspamd{},
		"milter": daemon.Milter{Program: "opendkim", Args: []string{"-f", "-x", "DIR/conf"}, Settings: "Mode v\nSocket local:DIR/m.sock\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := daemon.Run(t, kind)
			for _, at := range []backend.Address{d.Unix, d.TCP, d.Controller} {
				if at.Network == "" {
					continue
				}
				d.Restart(t)
				if !listens(at) {
					t.Errorf("nobody listens at %s", at)
				}
				d.Kill()
				if listens(at) {
					t.Errorf("somebody listens at %s after the end", at)
				}
			}
		})
	}
}

// TestEndsEarly starts what does not stay.
func TestEndsEarly(t *testing.T) {
	t.Parallel()
	_, err := daemon.Milter{Program: "opendkim", Args: []string{"-f", "-x", "DIR/conf"}, Settings: "NoSuchSetting 1\n"}.Start()
	if err == nil || !strings.Contains(err.Error(), "it ended early: exit status") || !strings.Contains(err.Error(), "unrecognized parameter") {
		t.Errorf("error %v, want what the daemon says", err)
	}
	_, err = daemon.Milter{Program: "no-such-daemon"}.Start()
	if err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("error %v, want what installs it", err)
	}
}
