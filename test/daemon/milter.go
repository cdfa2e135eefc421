package daemon

import (
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mox-like/mox-like/core/backend"
)

// Milter is a daemon that speaks the protocol of milters: opendkim, opendmarc,
// clamav-milter, spamass-milter. DIR in what follows stands for its folder. It must
// stay in the foreground and listen at DIR/m.sock.
type Milter struct {
	// Program is its name.
	Program string
	// Args are its arguments.
	Args []string
	// Settings are the text of the file DIR/conf.
	Settings string
}

// Start implements Kind.
func (m Milter) Start() (*Daemon, error) { return run(m.Program, m.prepare) }

func (m Milter) prepare(d *Daemon, path string) error {
	d.Unix = backend.Address{Network: "unix", Name: filepath.Join(d.dir, "m.sock")}
	var args []string
	for _, arg := range m.Args {
		args = append(args, strings.ReplaceAll(arg, "DIR", d.dir))
	}
	d.command = func() *exec.Cmd { return exec.Command(path, args...) } //nolint:gosec // the milter's
	d.answers = func() error { return ask(d.Unix, "", "") }
	return write(filepath.Join(d.dir, "conf"), strings.ReplaceAll(m.Settings, "DIR", d.dir))
}
