package control

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// accounts is the service that knows the accounts.
type accounts interface {
	Exists(ctx context.Context, address string) (bool, error)
	Add(ctx context.Context, address string, password mail.Secret) error
	SetPassword(ctx context.Context, address string, password mail.Secret) error
	Remove(ctx context.Context, address string) error
	List(ctx context.Context) ([]mail.Account, error)
}

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

// AddUser makes an account.
func (l *Local) AddUser(ctx context.Context, address string, password mail.Secret) error {
	service, user, err := l.account(address)
	if err != nil {
		return fmt.Errorf("add account: %w", err)
	}
	err = service.Add(ctx, user, password)
	if err == nil {
		return nil
	}
	if exists, _ := service.Exists(ctx, user); exists {
		return &kindError{kind: ErrExists, err: err}
	}
	return err
}

// SetPassword replaces an account's password.
func (l *Local) SetPassword(ctx context.Context, address string, password mail.Secret) error {
	service, user, err := l.account(address)
	if err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	return service.SetPassword(ctx, user, password)
}

// RemoveUser deletes an account and its mail.
func (l *Local) RemoveUser(ctx context.Context, address string) error {
	service, user, err := l.account(address)
	if err != nil {
		return fmt.Errorf("remove account: %w", err)
	}
	return service.Remove(ctx, user)
}

// Users lists the accounts.
func (l *Local) Users(ctx context.Context) ([]mail.Account, error) {
	service, err := core.ServiceOf[accounts](l.host)
	if err != nil {
		return nil, err
	}
	return service.List(ctx)
}

// account finds the service and brings an address into normal form.
func (l *Local) account(address string) (accounts, string, error) {
	service, err := core.ServiceOf[accounts](l.host)
	if err != nil {
		return nil, "", err
	}
	a, err := mail.ParseAddress(address)
	if err == nil && a.Domain == "" {
		err = mail.ErrAddressSyntax
	}
	if err != nil {
		return nil, "", &kindError{kind: ErrInvalid, err: fmt.Errorf("%q: %w", address, err)}
	}
	return service, a.Fold().String(), nil
}

// Trace finds the record of a message or a login, or all those of a session.
func (l *Local) Trace(ctx context.Context, id string) ([]*trace.Record, error) {
	return l.host.Traces().Lookup(ctx, id)
}

// FindTraces gives the newest n records that match, the oldest of them first.
func (l *Local) FindTraces(ctx context.Context, f trace.Filter, n int) ([]*trace.Record, error) {
	if n < 1 || n > MaxTraces {
		return nil, &kindError{kind: ErrInvalid, err: fmt.Errorf("list traces: the number is from 1 to %d, not %d", MaxTraces, n)}
	}
	list, err := l.host.Traces().Find(ctx, f, n)
	slices.SortStableFunc(list, func(a, b *trace.Record) int { return a.Time.Compare(b.Time) })
	return list, err
}

// LastTraces gives the newest n records, the oldest of them first.
func (l *Local) LastTraces(ctx context.Context, n int) ([]*trace.Record, error) {
	return l.FindTraces(ctx, trace.Filter{}, n)
}

// FollowTraces shows each record as it is added.
func (l *Local) FollowTraces(ctx context.Context, show func(*trace.Record) error) error {
	if l.process == nil {
		return fmt.Errorf("follow traces: %w", ErrNotRunning)
	}
	records, stop := l.host.Traces().Follow()
	defer stop()
	for {
		select {
		case r, ok := <-records:
			if !ok {
				return nil
			}
			if err := show(r); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
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
func (l *Local) Reload(ctx context.Context) (*Report, error) {
	if l.process == nil {
		return nil, fmt.Errorf("reload configuration: %w", ErrNotRunning)
	}
	return l.process.Reload(ctx)
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
