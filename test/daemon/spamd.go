package daemon

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mox-like/mox-like/core/backend"
)

// Spamd is a spamd with the rules that Debian has, two children and no DNS.
type Spamd struct {
	// Settings are more of its configuration.
	Settings string
	// Args are more of its arguments. HOME in them is a folder that it may write to.
	Args []string
}

// Start implements Kind.
func (s Spamd) Start() (*Daemon, error) { return run("spamd", s.prepare) }

func (s Spamd) prepare(d *Daemon, path string) (err error) {
	d.Unix = backend.Address{Network: "unix", Name: filepath.Join(d.dir, "spamd.sock")}
	if d.TCP, err = freePort(); err != nil {
		return err
	}
	etc, home := filepath.Join(d.dir, "etc"), filepath.Join(d.dir, "home")
	err = errors.Join(
		os.Chmod(d.dir, 0o755), //nolint:gosec // spamd leaves root
		os.Mkdir(home, 0o755),  //nolint:gosec // likewise
		os.CopyFS(etc, os.DirFS("/etc/spamassassin")),
	)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(etc, "zz_test.cf"), "dns_available no\nskip_rbl_checks 1\n"+s.Settings); err != nil {
		return err
	}
	args := []string{
		"--local", "--nouser-config", "--siteconfigpath=" + etc, "--helper-home-dir=" + home,
		"--listen=" + d.TCP.Name, "--listen=" + d.Unix.Name, "--socketmode=0666", "--allowed-ips=127.0.0.1",
		"--min-children=2", "--max-children=2", "--syslog=stderr",
	}
	for _, arg := range s.Args {
		args = append(args, strings.ReplaceAll(arg, "HOME", home))
	}
	if os.Getuid() == 0 {
		args = append(args, "--username=nobody")
		err = give(home, "nobody")
	}
	d.command = func() *exec.Cmd {
		cmd := exec.Command(path, args...) //nolint:gosec // spamd's
		cmd.Env = append(os.Environ(), "HOME="+home)
		return cmd
	}
	d.answers = func() error { return ask(d.Unix, "PING SPAMC/1.5\r\n\r\n", "PONG") }
	return err
}

// give makes a user of this machine the owner of a folder.
func give(dir, name string) error {
	account, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return err
	}
	return os.Chown(dir, uid, -1)
}
