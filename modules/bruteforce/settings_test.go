package bruteforce

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestSettingsAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	tests := map[string]struct{ settings, want string }{
		"block over max_block":   {"block = \"2h\"\nmax_block = \"1h\"", "max_block is 1h, less than block, 2h"},
		"day under window":       {"attempts = 10\nday_attempts = 5", "day_attempts is 5, less than attempts, 10"},
		"account's day":          {"account_day_attempts = 19", "account_day_attempts is 19, less than account_attempts, 20"},
		"account":                {"account_attempts = 2\naccount_networks = 3", "account_attempts is 2, less than account_networks, 3"},
		"exempt the internet":    {`exempt = ["0.0.0.0/0"]`, "whole internet"},
		"exempt IPv6 as a whole": {`exempt = ["::/0"]`, "whole internet"},
		"window":                 {`window = "2d"`, "window"},
		"attempts":               {"attempts = 0", "attempts"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := s.sandbox.Load(t.Context(), "handler.bruteforce", "bruteforce {\n"+tt.settings+"\n}")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"192.0.2.1/32", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::/64", "2001:db8::1/128", "::/0"} {
		n := newNetwork(netip.MustParsePrefix(text))
		if n.String() != text {
			t.Errorf("%s is printed as %s", text, n)
		}
		if again, ok := networkFromBytes(n.bytes()); !ok || again != n {
			t.Errorf("%s: bytes give %s, %v", text, again, ok)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 16), make([]byte, 18), append(make([]byte, 16), 129)} {
		if n, ok := networkFromBytes(b); ok {
			t.Errorf("%x is %s", b, n)
		}
	}
}

// A clock that is set back keeps failures; what lies far ahead is not believed.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		by   time.Duration
		want int
	}{"little": {-time.Minute, 421}, "far": {-time.Hour, 535}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, options{})
			s.fails(4, attacker, alice)
			s.clock.Add(tt.by)
			s.want(535, attacker, alice, wrong)
			s.want(tt.want, attacker, alice, wrong)
		})
	}
}
