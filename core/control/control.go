// Package control lets commands act on a data directory alike whether a server
// runs on it or not. Operations are what can be done; Local does it in this
// process, Client asks the process that has the directory, by HTTP on the Unix
// socket control.sock in it.
//
// Whoever may open the socket may do everything: it has mode 0600 in a directory
// of mode 0700. Errors mean the same on both ways. The paths of the API are for
// the two ends of one build and may change with it.
package control

import (
	"context"
	"errors"
	"time"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
)

// The errors of operations, to be compared with errors.Is. store.ErrFull and
// store.ErrClosed are among them.
var (
	// ErrNotFound is returned when there is no such account or record.
	ErrNotFound = store.ErrNotFound
	// ErrExists is returned when an account of that address exists.
	ErrExists = store.ErrExists
	// ErrInvalid is returned when an argument makes no sense, such as an address
	// that is none.
	ErrInvalid = errors.New("invalid argument")
	// ErrNotRunning is returned by what only a running server can do.
	ErrNotRunning = errors.New("no server runs on this data directory")
)

// Users are the operations on accounts. Addresses need not be in normal form.
type Users interface {
	// AddUser makes an account; ErrExists if there is one.
	AddUser(ctx context.Context, address string, password mail.Secret) error
	// SetPassword replaces an account's password; ErrNotFound if there is none.
	SetPassword(ctx context.Context, address string, password mail.Secret) error
	// RemoveUser deletes an account and its mail; ErrNotFound if there is none.
	RemoveUser(ctx context.Context, address string) error
	// Users lists the accounts in the order of their addresses.
	Users(ctx context.Context) ([]mail.Account, error)
}

// Traces are the operations on the log of decisions.
type Traces interface {
	// Trace finds the record of a message or a login by its id, or all those of a
	// session, the oldest first; ErrNotFound if there are none.
	Trace(ctx context.Context, id string) ([]*trace.Record, error)
	// FindTraces gives the newest n records that match, of the newest
	// trace.MaxScan, the oldest of them first. n is at most MaxTraces.
	FindTraces(ctx context.Context, f trace.Filter, n int) ([]*trace.Record, error)
	// LastTraces gives the newest n records, the oldest of them first.
	LastTraces(ctx context.Context, n int) ([]*trace.Record, error)
	// FollowTraces calls show for each record as it is added, until ctx ends (and
	// then returns nil) or show gives an error. It misses records when show is too
	// slow. ErrNotRunning if no server adds any.
	FollowTraces(ctx context.Context, show func(*trace.Record) error) error
}

// MaxTraces bounds how many records are asked for at once.
const MaxTraces = 10_000

// Process are the operations on the server itself.
type Process interface {
	// Reload swaps in the configuration file as it is now. ErrRefused comes with a
	// report that says why. ErrNotRunning if there is nothing to swap.
	Reload(ctx context.Context) (*Report, error)
	// Status tells what runs.
	Status(ctx context.Context) (*Status, error)
}

// Operations are all that commands can do.
type Operations interface {
	Users
	Traces
	Process
	// Domains lists the domains of the configuration in force, in the order of the
	// file.
	Domains(ctx context.Context) ([]Domain, error)
}

// Domain is a domain that lives here, and who gets its mail beside the accounts.
type Domain struct {
	Name string `json:"name"`
	// Aliases and CatchAll are as the configuration has them.
	Aliases  map[string][]string `json:"aliases,omitempty"`
	CatchAll string              `json:"catch_all,omitempty"`
}

// ErrRefused is returned when a configuration has errors and is not swapped in.
var ErrRefused = errors.New("the configuration has errors: nothing has changed")

// Report is what was found in a configuration.
type Report struct {
	Diagnostics config.Diagnostics `json:"diagnostics,omitempty"`
	// Sources are the texts that the diagnostics point into, without secrets.
	Sources map[string][]byte `json:"sources,omitempty"`
}

// Status tells what runs on a data directory.
type Status struct {
	Running bool `json:"running"`
	// DataDir is the directory. This path and that of the configuration are
	// absolute where a server runs.
	DataDir string `json:"data_dir"`
	// The rest is empty when nothing runs.
	Version    string     `json:"version,omitempty"`
	ProcessID  int        `json:"process_id,omitempty"`
	Since      time.Time  `json:"since,omitzero"`
	ConfigFile string     `json:"config_file,omitempty"`
	Listeners  []Listener `json:"listeners,omitempty"`
	// Reloaded is when the configuration was last read again, and ReloadError why
	// that was refused.
	Reloaded    time.Time `json:"reloaded,omitzero"`
	ReloadError string    `json:"reload_error,omitempty"`
}

// Listener tells where a listener listens: host:port or unix:path.
type Listener struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`
	Addresses []string `json:"addresses"`
}
