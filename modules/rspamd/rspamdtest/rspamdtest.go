// Package rspamdtest runs a real rspamd for tests: with the configuration that
// Debian's package has, without what reaches for the network, and with rules by
// which a message chooses what rspamd says about it, see rules.lua.
package rspamdtest

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/mox-like/mox-like/core/backend"
)

// Password is that of the controller.
const Password = "not a secret but long enough"

// Daemon is a running rspamd.
type Daemon struct {
	// TCP and Unix are where its normal worker listens.
	TCP, Unix backend.Address
	// Controller is where its controller listens.
	Controller backend.Address

	dir     string
	command *exec.Cmd
	log     chan string
}

// Options are what tests may want otherwise.
type Options struct {
	// Hyperscan has regular expressions compiled, as in production; that takes the
	// processor for some seconds.
	Hyperscan bool
	// TCP is where the normal worker listens, "host:port"; a free port without it.
	TCP string
	// Local are further lines of files of local.d, by the names of those. Modules that
	// are off otherwise are on if they have any.
	Local map[string]string
}

//go:embed rules.lua
var rules []byte

// remote are the parts that ask the network, or another daemon.
var remote = [...]string{
	"antivirus", "arc", "asn", "aws_s3", "bimi", "clickhouse", "dcc", "dkim", "dkim_signing", "dmarc", "elastic",
	"external_services", "fuzzy_check", "greylist", "hfilter", "history_redis", "maillist", "metadata_exporter",
	"metric_exporter", "mid", "mime_types", "multimap", "mx_check", "neural", "p0f", "phishing", "ratelimit", "rbl",
	"replies", "reputation", "rspamd_update", "spamtrap", "spf", "surbl", "url_redirector", "whitelist",
}

// patience is how long rspamd may take to answer once it listens.
const patience = 30 * time.Second

// Start runs rspamd, which is ready in one or two seconds, as the user that runs
// the test: by itself it refuses to do so for root.
func Start(o Options) (*Daemon, error) {
	program, err := exec.LookPath("rspamd")
	if err != nil {
		return nil, fmt.Errorf("these tests need rspamd: %w; run: apt-get install --no-install-recommends rspamd", err)
	}
	// The path of a socket must be short.
	dir, err := os.MkdirTemp("", "rspamd")
	if err != nil {
		return nil, err
	}
	d := &Daemon{dir: dir, log: make(chan string, 1)}
	if err := d.start(program, o); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := d.answers(); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

func (d *Daemon) start(program string, o Options) error {
	if err := d.prepare(o); err != nil {
		return fmt.Errorf("prepare configuration of rspamd: %w", err)
	}
	etc, run := filepath.Join(d.dir, "etc"), filepath.Join(d.dir, "run")
	//nolint:gosec // the path is of the search path, the arguments are of a folder just made
	d.command = exec.Command(program, "--no-fork", "--insecure", "--config="+filepath.Join(etc, "rspamd.conf"),
		"--var=CONFDIR="+etc, "--var=LOCAL_CONFDIR="+etc, "--var=DBDIR="+run, "--var=RUNDIR="+run, "--var=LOGDIR="+run)
	output, err := d.command.StderrPipe()
	if err != nil {
		return err
	}
	if err := d.command.Start(); err != nil {
		return fmt.Errorf("start rspamd: %w", err)
	}
	ready := make(chan struct{})
	go d.read(output, ready)
	select {
	case <-ready:
		return nil
	case log := <-d.log:
		return fmt.Errorf("rspamd ended early: %w\n%s", d.command.Wait(), log)
	}
}

// read keeps the log, and closes ready once the workers are forked, whose sockets
// are open then.
func (d *Daemon) read(output io.Reader, ready chan<- struct{}) {
	var log strings.Builder
	forked := false
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if log.Len() < 256<<10 {
			log.WriteString(lines.Text() + "\n")
		}
		if !forked && strings.Contains(lines.Text(), "listening for control commands") {
			forked = true
			close(ready)
		}
	}
	d.log <- log.String()
}

// answers waits for an answer of each worker.
func (d *Daemon) answers() error {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, address := range []backend.Address{d.TCP, d.Controller} {
		response, err := client.Get("http://" + address.Name + "/ping")
		if err != nil {
			return err
		}
		text, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil || !bytes.HasPrefix(text, []byte("pong")) {
			return fmt.Errorf("rspamd answers %q to a ping: %w", text, err)
		}
	}
	return nil
}

// Stop ends rspamd and removes its files.
func (d *Daemon) Stop() error {
	_ = d.command.Process.Signal(syscall.SIGTERM)
	log := <-d.log
	err := d.command.Wait()
	if err != nil {
		err = fmt.Errorf("rspamd did not end well: %w\n%s", err, log)
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

// prepare writes the configuration.
func (d *Daemon) prepare(o Options) error {
	etc, run := filepath.Join(d.dir, "etc"), filepath.Join(d.dir, "run")
	if err := errors.Join(os.Mkdir(run, 0o700), copyShipped(etc)); err != nil {
		return err
	}
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	d.TCP = backend.Address{Network: "tcp", Name: ports[0]}
	if o.TCP != "" {
		d.TCP.Name = o.TCP
	}
	d.Controller = backend.Address{Network: "tcp", Name: ports[1]}
	d.Unix = backend.Address{Network: "unix", Name: filepath.Join(run, "normal.sock")}
	local := map[string]string{
		"options.inc": fmt.Sprintf("dns { nameserver = [\"127.0.0.1:1\"]; timeout = 0.01s; retransmits = 1; }\n"+
			"enable_test_patterns = true;\nurl_tld = %q;\ncontrol_socket = \"%s/control.sock mode=0600\";\ndisable_hyperscan = %t;\n",
			filepath.Join(etc, "tld.dat"), run, !o.Hyperscan),
		"logging.inc":           "type = \"console\";\n",
		"worker-normal.inc":     fmt.Sprintf("bind_socket = %q;\nbind_socket = \"%s mode=0666\";\n", d.TCP.Name, d.Unix.Name),
		"worker-controller.inc": fmt.Sprintf("bind_socket = %q;\nsecure_ip = [];\npassword = %q;\n", d.Controller.Name, Password),
		"worker-proxy.inc":      "enabled = false;\n",
		"classifier-bayes.conf": fmt.Sprintf("backend = \"sqlite3\";\nnew_schema = false;\nmin_learns = 1;\n"+
			"cache { type = \"sqlite3\"; path = \"%[1]s/learnt.sqlite\"; }\n"+
			"statfile { symbol = \"BAYES_HAM\"; spam = false; path = \"%[1]s/ham.sqlite\"; }\n"+
			"statfile { symbol = \"BAYES_SPAM\"; spam = true; path = \"%[1]s/spam.sqlite\"; }\n", run),
	}
	for _, module := range remote {
		if name := module + ".conf"; o.Local[name] == "" {
			local[name] = "enabled = false;\n"
		}
	}
	for name, text := range o.Local {
		local[name] += text
	}
	for name, text := range local {
		if err := os.WriteFile(filepath.Join(etc, "local.d", name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	// The shipped list of domains takes ten seconds to be compiled.
	if err := os.WriteFile(filepath.Join(etc, "tld.dat"), []byte("com\nexample\nnet\norg\ntest\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(etc, "rspamd.local.lua"), rules, 0o600)
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
		return os.WriteFile(filepath.Join(etc, name), fetched.ReplaceAll(text, nil), 0o600)
	})
	return errors.Join(err, os.Mkdir(filepath.Join(etc, "local.d"), 0o700))
}

// freePorts gives addresses on loopback that nobody uses.
func freePorts(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}
