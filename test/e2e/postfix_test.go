package e2e

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/test/daemon"
)

// postfixMain and postfixMaster are the configuration of a Postfix that relays
// all mail to one server, and tries again after a few seconds: sooner than that its
// queue manager may come upon a message that is still being delivered, which it then
// leaves for minutes. Its services are Debian's, without chroot and without those
// that nothing here uses.
const (
	postfixMain = `compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
myhostname = relay.example.org
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
relayhost = [{host}]:{port}
smtp_tls_security_level = may
minimal_backoff_time = 4s
maximal_backoff_time = 4s
queue_run_delay = 2s
transport_retry_time = 1s
maillog_file = {dir}/postfix.log
maillog_file_prefixes = {dir}
`
	postfixMaster = `{address} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`
)

// postfix runs an instance of Postfix, which shares nothing with another on the
// machine, until the test ends. It gives the address that takes mail, and counts
// what its queue has.
func postfix(t *testing.T, relayTo string) (address string, queued func() int) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // Postfix has users of its own
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(relayTo)
	if err != nil {
		t.Fatal(err)
	}
	address = freeAddress(t)
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatalf("this test needs postfix, which make deps installs: %v", err)
	}
	uid, uidErr := strconv.Atoi(owner.Uid)
	gid, gidErr := strconv.Atoi(owner.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"queue", "data", "etc"} {
		err := os.Mkdir(filepath.Join(dir, name), 0o755)
		if err == nil && name == "data" {
			err = os.Chown(filepath.Join(dir, name), uid, gid)
		}
		if err != nil {
			t.Fatalf("%v (Postfix must be started by root)", err)
		}
	}
	fill := strings.NewReplacer("{dir}", dir, "{host}", host, "{port}", port, "{address}", address)
	for name, text := range map[string]string{"main.cf": postfixMain, "master.cf": postfixMaster} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(fill.Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := daemon.Program(t, "postfix")
	control := func(verb string) {
		if output, err := exec.Command(path, "-c", filepath.Join(dir, "etc"), verb).CombinedOutput(); err != nil {
			t.Errorf("postfix %s: %v\n%s", verb, err, output)
		}
	}
	t.Cleanup(func() {
		control("stop") // it waits for the end of all processes
		if t.Failed() {
			log, err := os.ReadFile(filepath.Join(dir, "postfix.log"))
			t.Logf("the end of Postfix's log (%v):\n%s", err, tail(string(log), 40))
		}
	})
	control("start")
	eventually(t, "Postfix takes mail", func() bool {
		s, err := dial(address, "")
		return err == nil && s.quit() == nil
	})
	return address, func() int { return postfixQueue(t, filepath.Join(dir, "queue")) }
}

// postfixQueue counts the files of messages in a queue.
func postfixQueue(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	for _, name := range []string{"maildrop", "incoming", "active", "deferred"} {
		err := filepath.WalkDir(filepath.Join(dir, name), func(_ string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it has just moved on
			}
			if err == nil && !entry.IsDir() {
				n++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// freeAddress finds a port that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
