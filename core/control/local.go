package control

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

// Local does the operations in this process. It is safe for concurrent use.
type Local struct {
	host    core.Host
	dir     string
	process Process
}

// NewLocal gives the operations on a host. process is nil where no server runs;
// dir is the data directory, for Status.
func NewLocal(host core.Host, dir string, process Process) *Local {
	return &Local{host: host, dir: dir, process: process}
}

// service finds the service that does what the error then names.
func service[T any](l *Local, what string) (T, error) {
	s, err := core.ServiceOf[T](l.host)
	if err != nil {
		return s, &kindError{kind: ErrMissing, err: fmt.Errorf("%s: %w", what, err)}
	}
	return s, nil
}

// audited makes a change and writes it into the audit trail. do gives what is
// there after the change.
func (l *Local) audited(ctx context.Context, e AuditEntry, before any, do func() (after any, err error)) error {
	trail, err := l.trail()
	if err != nil {
		return err
	}
	return trail.audited(ctx, e, before, do)
}

// trail gives the service with the audit trail.
func (l *Local) trail() (*Service, error) { return service[*Service](l, "find audit trail") }

// Audit lists the changes that match, the newest first.
func (l *Local) Audit(ctx context.Context, f ChangeFilter, p Page) ([]AuditEntry, string, error) {
	trail, err := l.trail()
	if err != nil {
		return nil, "", err
	}
	return trail.list(ctx, f, p)
}

// normal brings an address into normal form.
func normal(address string) (string, error) {
	a, err := mail.ParseAddress(address)
	if err == nil && a.Domain == "" {
		err = mail.ErrAddressSyntax
	}
	if err != nil {
		return "", Invalid(fmt.Errorf("%q: %w", address, err))
	}
	return a.Fold().String(), nil
}

// Domains lists the domains of the configuration in force.
func (l *Local) Domains(context.Context) ([]Domain, error) {
	var list []Domain
	for _, d := range l.host.Domains().All() {
		list = append(list, Domain{Name: d.Name, Aliases: d.Aliases, CatchAll: d.CatchAll})
	}
	return list, nil
}

// Reload swaps in the configuration file as it is now.
func (l *Local) Reload(ctx context.Context) (report *Report, err error) {
	if l.process == nil {
		return nil, fmt.Errorf("reload configuration: %w", ErrNotRunning)
	}
	status, err := l.process.Status(ctx)
	if err != nil {
		return nil, err
	}
	e := AuditEntry{Operation: "reload", Object: absolute(status.ConfigFile)}
	err = l.audited(ctx, e, nil, func() (any, error) {
		report, err = l.process.Reload(ctx)
		return nil, err
	})
	return report, err
}

// Status tells what runs, in words that mean the same to a command in another
// directory.
func (l *Local) Status(ctx context.Context) (*Status, error) {
	if l.process == nil {
		return &Status{DataDir: l.dir}, nil
	}
	s, err := l.process.Status(ctx)
	if err != nil {
		return nil, err
	}
	s.DataDir, s.ConfigFile = absolute(s.DataDir), absolute(s.ConfigFile)
	for _, listener := range s.Listeners {
		for i, address := range listener.Addresses {
			listener.Addresses[i] = withNetwork(address)
		}
	}
	return s, nil
}

// withNetwork tells the path of a Unix socket from host:port.
func withNetwork(address string) string {
	path, isUnix := strings.CutPrefix(address, "unix:")
	if _, _, err := net.SplitHostPort(address); err == nil && !isUnix && !strings.Contains(address, "/") {
		return address
	}
	return "unix:" + absolute(path)
}

// absolute gives the path from the root, where the system can tell.
func absolute(path string) string {
	whole, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return whole
}

var _ Operations = (*Local)(nil)
