package core

import (
	"net"
	"testing"
)

// TestListenNetwork holds that IPv4 and IPv6 can be listened on side by side, and
// what else can be bound.
func TestListenNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"0.0.0.0:25": "tcp4", "127.0.0.1:25": "tcp4", "localhost:25": "tcp4", "[::ffff:127.0.0.1]:25": "tcp4",
		"[::]:25": "tcp6", "[::1]:25": "tcp6", ":25": "tcp",
	} {
		if got := listenNetwork(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	port := ":0"
	for _, host := range []string{"0.0.0.0", "[::]"} {
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), listenNetwork(host+port), host+port)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, number, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		port = ":" + number
	}
}
