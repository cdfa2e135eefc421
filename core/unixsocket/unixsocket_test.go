package unixsocket_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/unixsocket"
)

func TestListen(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		prepare func(t *testing.T, path string)
		want    string // the error has it
	}{
		"nothing":      {func(*testing.T, string) {}, ""},
		"stale socket": {func(t *testing.T, path string) { t.Helper(); leave(t, path) }, ""},
		"in use":       {func(t *testing.T, path string) { t.Helper(); bind(t, path) }, "another process listens there"},
		"file": {func(t *testing.T, path string) {
			t.Helper()
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "no socket"},
		"link to a stale socket": {func(t *testing.T, path string) {
			t.Helper()
			leave(t, path+"2")
			if err := os.Symlink(path+"2", path); err != nil {
				t.Fatal(err)
			}
		}, "no socket"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "s")
			test.prepare(t, path)
			before, _ := os.Lstat(path)
			l, err := unixsocket.Listen(t.Context(), path)
			if test.want != "" {
				after, _ := os.Lstat(path)
				if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), test.want) || !os.SameFile(before, after) {
					t.Errorf("error %v, want %q, and what is there to stay", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
				t.Errorf("there is %v (%v), want a socket for its owner alone", info.Mode(), err)
			}
		})
	}
}

func bind(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// leave makes what a process that was killed has left.
func leave(t *testing.T, path string) {
	t.Helper()
	l := bind(t, path)
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
