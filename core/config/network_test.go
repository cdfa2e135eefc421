package config

import "testing"

// FuzzParseNetwork holds parse(print(x)) = x, and that a network contains the
// address that it is written with.
func FuzzParseNetwork(f *testing.F) {
	for _, seed := range []string{"192.0.2.0/24", "192.0.2.5/24", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.0/120", "::ffff:0:0/95", "fe80::1%eth0", "::/0", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		network, err := parseNetwork(text)
		if err != nil {
			return
		}
		if again, err := parseNetwork(network.String()); err != nil || again != network || !inNetwork(network, network.Addr().String()) {
			t.Errorf("%q is %s, which is %s, %v", text, network, again, err)
		}
	})
}
