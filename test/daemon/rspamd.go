package daemon

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/mox-like/mox-like/core/backend"
)

// RspamdPassword is that of the controller.
const RspamdPassword = "not a secret but long enough"

// Rspamd is a rspamd with the configuration that Debian has, without what reaches for
// the network, and with rules by which a message chooses what rspamd says about it, see
// rules.lua.
type Rspamd struct {
	// Hyperscan has regular expressions compiled, as in production; that takes the
	// processor for some seconds.
	Hyperscan bool
	// Local are further lines of files of local.d, by the names of those. Modules that
	// are off otherwise are on if they have any.
	Local map[string]string
}

//go:embed rules.lua
var rules string

// remote are the parts that ask the network, or another daemon.
var remote = [...]string{
	"antivirus", "arc", "asn", "aws_s3", "bimi", "clickhouse", "dcc", "dkim", "dkim_signing", "dmarc", "elastic",
	"external_services", "fuzzy_check", "greylist", "hfilter", "history_redis", "maillist", "metadata_exporter",
	"metric_exporter", "mid", "mime_types", "multimap", "mx_check", "neural", "p0f", "phishing", "ratelimit", "rbl",
	"replies", "reputation", "rspamd_update", "spamtrap", "spf", "surbl", "url_redirector", "whitelist",
}

// Start implements Kind. The daemon has the user of the test: by itself it refuses to
// run for root.
func (r Rspamd) Start() (*Daemon, error) { return run("rspamd", r.prepare) }

func (r Rspamd) prepare(d *Daemon, path string) error {
	etc, state := filepath.Join(d.dir, "etc"), filepath.Join(d.dir, "run")
	d.Unix = backend.Address{Network: "unix", Name: filepath.Join(state, "normal.sock")}
	var err, err2 error
	d.TCP, err = freePort()
	d.Controller, err2 = freePort()
	if err := errors.Join(err, err2, os.Mkdir(state, 0o700), copyShipped(etc)); err != nil {
		return err
	}
	d.command = func() *exec.Cmd {
		return exec.Command(path, "--no-fork", "--insecure", "--config="+filepath.Join(etc, "rspamd.conf"), //nolint:gosec // rspamd's
			"--var=CONFDIR="+etc, "--var=LOCAL_CONFDIR="+etc, "--var=DBDIR="+state, "--var=RUNDIR="+state, "--var=LOGDIR="+state)
	}
	d.answers = func() error {
		const ping = "GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
		return errors.Join(ask(d.TCP, ping, "pong"), ask(d.Unix, ping, "pong"), ask(d.Controller, ping, "pong"))
	}
	for name, text := range r.local(d, etc, state) {
		if err := write(filepath.Join(etc, "local.d", name), text); err != nil {
			return err
		}
	}
	return errors.Join(
		// The shipped list of domains takes ten seconds to be compiled.
		write(filepath.Join(etc, "tld.dat"), "com\nexample\nnet\norg\ntest\n"),
		write(filepath.Join(etc, "rspamd.local.lua"), rules),
	)
}

// local gives the files of local.d.
func (r Rspamd) local(d *Daemon, etc, state string) map[string]string {
	files := map[string]string{
		"options.inc": fmt.Sprintf("dns { nameserver = [\"127.0.0.1:1\"]; timeout = 0.01s; retransmits = 1; }\n"+
			"enable_test_patterns = true;\nurl_tld = %q;\ncontrol_socket = \"%s/control.sock mode=0600\";\ndisable_hyperscan = %t;\n",
			filepath.Join(etc, "tld.dat"), state, !r.Hyperscan),
		"logging.inc":           "type = \"console\";\n",
		"worker-normal.inc":     fmt.Sprintf("bind_socket = %q;\nbind_socket = \"%s mode=0666\";\n", d.TCP.Name, d.Unix.Name),
		"worker-controller.inc": fmt.Sprintf("bind_socket = %q;\nsecure_ip = [];\npassword = %q;\n", d.Controller.Name, RspamdPassword),
		"worker-proxy.inc":      "enabled = false;\n",
		"classifier-bayes.conf": fmt.Sprintf("backend = \"sqlite3\";\nnew_schema = false;\nmin_learns = 1;\n"+
			"cache { type = \"sqlite3\"; path = \"%[1]s/learnt.sqlite\"; }\n"+
			"statfile { symbol = \"BAYES_HAM\"; spam = false; path = \"%[1]s/ham.sqlite\"; }\n"+
			"statfile { symbol = \"BAYES_SPAM\"; spam = true; path = \"%[1]s/spam.sqlite\"; }\n", state),
	}
	for _, module := range remote {
		if name := module + ".conf"; r.Local[name] == "" {
			files[name] = "enabled = false;\n"
		}
	}
	for name, text := range r.Local {
		files[name] += text
	}
	return files
}

// fetched are the lines of the shipped configuration that name what is fetched.
var fetched = regexp.MustCompile(`(?m)^.*(maps\.rspamd\.com|openphish_map|updates\.rspamd\.com).*\n`)

// copyShipped copies the configuration, without what has been changed on this
// machine.
func copyShipped(etc string) error {
	shipped := os.DirFS("/etc/rspamd")
	err := fs.WalkDir(shipped, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name == "local.d" || name == "override.d"):
			return fs.SkipDir
		case entry.IsDir():
			return os.Mkdir(filepath.Join(etc, name), 0o700)
		case strings.Contains(name, "local"):
			return nil
		}
		text, err := fs.ReadFile(shipped, name)
		if err != nil {
			return err
		}
		return write(filepath.Join(etc, name), fetched.ReplaceAllString(string(text), ""))
	})
	return errors.Join(err, os.Mkdir(filepath.Join(etc, "local.d"), 0o700))
}
