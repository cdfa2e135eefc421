package core

import (
	"net"
	"testing"

	"go.uber.org/zap"
)

// A socket of the service manager is had once, under whichever spelling: it is
// closed with the first that used it.
func TestGivenSocketIsTakenOnce(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]net.Listener{"[::]:25": l, ":25": l}
	s, err := listenOn(t.Context(), "[::]:25", "", given, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if len(given) != 0 {
		t.Errorf("the socket can be had again: %v", given)
	}
}

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

// [::] alone takes IPv6 only, which is mostly a mistake.
func TestIPv6OnlyIsTold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		addresses []string
		want      int
	}{
		{[]string{"[::]:2525"}, 1},
		{[]string{"[::]:2525", "0.0.0.0:2525"}, 0},
		{[]string{"[::]:2525", "127.0.0.1:2525"}, 0},
		{[]string{"[::]:2525", "127.0.0.1:2526"}, 1},
		{[]string{":2525"}, 0},
		{[]string{"[::1]:2525"}, 0},
	} {
		b := &builder{}
		for _, text := range tt.addresses {
			e, _ := parseEndpoint(text, "")
			b.taken = append(b.taken, takenAddress{endpoint: e, text: text})
		}
		b.checkFamilies()
		if _, warnings := b.ds.Count(); warnings != tt.want {
			t.Errorf("%v: %d warnings, want %d", tt.addresses, warnings, tt.want)
		}
	}
}
