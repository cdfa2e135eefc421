package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mox-like/mox-like/bench/proc"
)

// postfix is an instance of Postfix that shares nothing with another on the
// machine. Its settings are the defaults, durability included; mail for the one
// recipient goes to a Maildir by virtual(8).
type postfix struct {
	dir    string
	at     string
	master int
}

// postfixOptions say what an instance of Postfix does beside taking mail in.
type postfixOptions struct {
	log bool
	// host is the address that it listens on; "" is 127.0.0.1.
	host string
	// main and services are added to main.cf and to master.cf.
	main, services string
}

// mainCF and masterCF are Postfix's configuration. The services are Debian's,
// without chroot and without those that nothing here uses.
const (
	mainCF = `compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
myhostname = {hostname}
mydestination =
inet_interfaces = all
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
virtual_mailbox_domains = example.test
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = static:alice/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
maillog_file_prefixes = {dir}
`
	logCF    = "maillog_file = {dir}/postfix.log\n"
	masterCF = `{address} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`
)

func startPostfix(ctx context.Context, dir string, o postfixOptions) (*postfix, error) {
	address, err := proc.FreeAddress(ctx, cmp.Or(o.host, "127.0.0.1"))
	if err != nil {
		return nil, err
	}
	p := &postfix{dir: dir, at: address}
	if err := p.prepare(o); err != nil {
		return nil, err
	}
	if err := p.control(ctx, "start"); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "queue", "pid", "master.pid"))
	if err == nil {
		p.master, err = strconv.Atoi(string(bytes.TrimSpace(text)))
	}
	if err == nil {
		err = await(ctx, address, greets)
	}
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// prepare writes the configuration and makes the directories with the owners
// that Postfix demands.
func (p *postfix) prepare(o postfixOptions) error {
	owner, err := account("postfix")
	if err != nil {
		return fmt.Errorf("find Postfix's user: %w (it comes with Debian's package postfix)", err)
	}
	reader, err := account("nobody")
	if err != nil {
		return fmt.Errorf("find a user to deliver as: %w", err)
	}
	for name, of := range map[string][2]int{"queue": {0, 0}, "data": owner, "mail": reader, "etc": {0, 0}} {
		path := filepath.Join(p.dir, name)
		if err := os.Mkdir(path, 0o755); err != nil { //nolint:gosec // Postfix has users of its own
			return err
		}
		if err := os.Chown(path, of[0], of[1]); err != nil {
			return fmt.Errorf("%w (run this as root, which Postfix needs)", err)
		}
	}
	settings := strings.NewReplacer("{dir}", p.dir, "{hostname}", hostname, "{address}", p.at,
		"{uid}", strconv.Itoa(reader[0]), "{gid}", strconv.Itoa(reader[1]))
	main := mainCF + o.main
	if o.log {
		main += logCF
	}
	for name, text := range map[string]string{"main.cf": main, "master.cf": masterCF + o.services} {
		path := filepath.Join(p.dir, "etc", name)
		if err := os.WriteFile(path, []byte(settings.Replace(text)), 0o644); err != nil { //nolint:gosec // its users read them
			return err
		}
	}
	return nil
}

// account gives the numbers of a system user and its group.
func account(name string) (ids [2]int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return ids, err
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	return [2]int{uid, gid}, errors.Join(uidErr, gidErr)
}

// control runs postfix(1).
func (p *postfix) control(ctx context.Context, verb string) error {
	cmd := command(ctx, "postfix", "-c", filepath.Join(p.dir, "etc"), verb)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("postfix %s: %w: %s", verb, err, bytes.TrimSpace(output.Bytes()))
	}
	return nil
}

func (p *postfix) pids() []int     { return []int{p.master} }
func (p *postfix) address() string { return p.at }

// settle waits until the queue is empty.
func (p *postfix) settle(ctx context.Context) error {
	for {
		queued, err := p.queued()
		if err != nil || queued == 0 {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %d messages in the queue: %w", queued, err)
		}
	}
}

// stored counts the Maildir.
func (p *postfix) stored(_ context.Context, n int) error {
	found, err := os.ReadDir(filepath.Join(p.dir, "mail", "alice", "new"))
	if err != nil {
		return err
	}
	if len(found) != n {
		return fmt.Errorf("the Maildir has %d, want %d", len(found), n)
	}
	return nil
}

func (p *postfix) queued() (int, error) {
	n := 0
	for _, name := range []string{"maildrop", "incoming", "active", "deferred"} {
		err := filepath.WalkDir(filepath.Join(p.dir, "queue", name), func(_ string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !entry.IsDir() {
				n++
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// stop ends the master, which ends the others, and waits for it.
func (p *postfix) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := p.control(ctx, "stop")
	if p.master == 0 {
		return err
	}
	for syscall.Kill(p.master, 0) == nil {
		if waitErr := pause(ctx, 20*time.Millisecond); waitErr != nil {
			return errors.Join(err, fmt.Errorf("postfix did not stop and is killed: %w", waitErr), syscall.Kill(-p.master, syscall.SIGKILL))
		}
	}
	return err
}
