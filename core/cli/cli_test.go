package cli

import (
	"net"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestShortDuration(t *testing.T) {
	t.Parallel()
	tests := map[time.Duration]string{
		0:                        "0µs",
		999 * time.Nanosecond:    "0µs",
		999 * time.Microsecond:   "999µs",
		1500 * time.Microsecond:  "1.50ms",
		12340 * time.Microsecond: "12.3ms",
		123 * time.Millisecond:   "123ms",
		1234 * time.Millisecond:  "1.23s",
		90 * time.Second:         "90.0s",
		100 * time.Second:        "100s",
	}
	for d, want := range tests {
		if got := shortDuration(d); got != want {
			t.Errorf("shortDuration(%v) = %q, want %q", d, got, want)
		}
	}
}

// TestShellQuote asks a shell what it makes of a word.
func TestShellQuote(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "plain", "imaps://127.0.0.1:9993/INBOX;MAILINDEX=1", "it's $HOME `id` \"x\" \\", "a  b\tc"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+shellQuote(text)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if string(out) != text {
			t.Errorf("a shell reads %s as %q, want %q", shellQuote(text), out, text)
		}
	}
}

func TestSpellings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		address net.Addr
		want    []string
	}{
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25}, []string{"192.0.2.1:25"}},
		{&net.TCPAddr{IP: net.IPv4zero, Port: 25}, []string{"0.0.0.0:25"}},
		{&net.TCPAddr{IP: net.IPv6unspecified, Port: 25}, []string{"[::]:25", ":25"}},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 25}, []string{"[2001:db8::1]:25"}},
		{&net.UnixAddr{Name: "/run/mox-like.sock", Net: "unix"}, []string{"unix:/run/mox-like.sock"}},
		{&net.UDPAddr{Port: 25}, nil},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, spellings(test.address)); diff != "" {
			t.Errorf("spellings(%v) (-want +got):\n%s", test.address, diff)
		}
	}
}

func TestVersionOf(t *testing.T) {
	t.Parallel()
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	tests := map[string]debug.BuildInfo{
		"v1.2.3":                          {Main: debug.Module{Version: "v1.2.3"}},
		"devel":                           {Main: debug.Module{Version: "(devel)"}},
		"devel 0123456789ab":              {Settings: []debug.BuildSetting{setting("vcs.revision", "0123456789abcdef")}},
		"devel 0123456789ab with changes": {Settings: []debug.BuildSetting{setting("vcs.revision", "0123456789abcdef"), setting("vcs.modified", "true")}},
	}
	for want, info := range tests {
		if got := versionOf(&info); got != want {
			t.Errorf("version %q, want %q", got, want)
		}
	}
}

func TestReadLine(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text, want string
		fails      bool
	}{
		"line":       {text: "secret\nmore", want: "secret"},
		"CRLF":       {text: "secret\r\n", want: "secret"},
		"no end":     {text: "secret", want: "secret"},
		"spaces":     {text: " se cret \n", want: " se cret "},
		"empty line": {text: "\n", want: ""},
		"nothing":    {text: "", fails: true},
		"too long":   {text: strings.Repeat("x", maxLine+1), fails: true},
	}
	for name, test := range tests {
		got, err := readLine(strings.NewReader(test.text))
		if got != test.want || (err != nil) != test.fails {
			t.Errorf("%s: %q, %v, want %q, error %v", name, got, err, test.want, test.fails)
		}
	}
}

// TestProgram: 'go run' leaves its programs where nobody finds them.
func TestProgram(t *testing.T) {
	t.Parallel()
	const inCache = "/var/cache/go/40/400ea3f59634f9a7504b467b0f5b7eeb62c11d4d187c0df28479439c1edbfe47-d/mox-like"
	tests := []struct{ executable, called, want string }{
		{"/tmp/go-build3466033562/b001/exe/mox-like", "/tmp/go-build3466033562/b001/exe/mox-like", "go run ./cmd/mox-like"},
		{"/home/user/.cache/go-build/40/400e-d/mox-like", "/home/user/.cache/go-build/40/400e-d/mox-like", "go run ./cmd/mox-like"},
		{inCache, inCache, "go run ./cmd/mox-like"},
		{"/usr/local/bin/mox-like", "mox-like", "mox-like"},
		{"/home/me/go-builder/mox-like", "./mox-like", "./mox-like"},
		{"/home/me/my mail/mox-like", "/home/me/my mail/mox-like", "'/home/me/my mail/mox-like'"},
		{"", "mox-like", "mox-like"},
	}
	for _, test := range tests {
		if got := program(test.executable, test.called); got != test.want {
			t.Errorf("%s, called as %s: %s, want %s", test.executable, test.called, got, test.want)
		}
	}
}

// TestDemoPasswords: they are made once, and a file that lacks one is completed.
func TestDemoPasswords(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "passwords")
	first, err := demoPasswords(name)
	if err != nil {
		t.Fatal(err)
	}
	alice, bob := first[demoUsers[0]], first[demoUsers[1]]
	if len(alice) != 16 || len(bob) != 16 || alice == bob {
		t.Errorf("passwords of %d and %d characters, want two of 16", len(alice), len(bob))
	}
	second, err := demoPasswords(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the second time (-first +second):\n%s", diff)
	}
	if _, err := demoPasswords(t.TempDir()); err == nil {
		t.Error("a directory is taken for the file")
	}
}
