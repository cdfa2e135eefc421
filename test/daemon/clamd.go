package daemon

import (
	"encoding/hex"
	"net"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mox-like/mox-like/core/backend"
)

// Clamd is a clamd that knows EICAR alone.
type Clamd struct {
	// Settings are lines of clamd.conf, and count before those that it has.
	Settings []string
}

// clamdConf is what it has. Of what comes twice the first counts.
const clamdConf = `Foreground yes
DatabaseDirectory DIR
TemporaryDirectory DIR
LocalSocket DIR/clamd.sock
TCPAddr 127.0.0.1
TCPSocket PORT
OfficialDatabaseOnly no
SelfCheck 0
StreamMaxLength 25M
MaxFileSize 25M
MaxScanSize 100M
AlertExceedsMax yes
Bytecode no
PhishingSignatures no
`

// Start implements Kind.
func (c Clamd) Start() (*Daemon, error) { return run("clamd", c.prepare) }

func (c Clamd) prepare(d *Daemon, path string) (err error) {
	d.Unix = backend.Address{Network: "unix", Name: filepath.Join(d.dir, "clamd.sock")}
	if d.TCP, err = freePort(); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(d.TCP.Name)
	if err != nil {
		return err
	}
	settings := filepath.Join(d.dir, "clamd.conf")
	d.command = func() *exec.Cmd { return exec.Command(path, "--config-file="+settings) } //nolint:gosec // clamd's
	d.answers = func() error { return ask(d.Unix, "zPING\x00", "PONG") }
	if err := write(filepath.Join(d.dir, "test.ndb"), "Eicar-Test-Signature:0:*:"+hex.EncodeToString([]byte(EICAR))+"\n"); err != nil {
		return err
	}
	text := strings.NewReplacer("DIR", d.dir, "PORT", port).Replace(clamdConf)
	return write(settings, strings.Join(append(c.Settings, text), "\n"))
}
