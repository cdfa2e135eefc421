// Package control lets commands and other programs act on a data directory alike
// whether a server runs on it or not. Operations are what can be done; Local does
// it in this process, Client asks the process that has the directory, by HTTP on
// the Unix socket control.sock in it. NewHandler gives the same API to listeners
// (modules/admin); docs/api.md and docs/openapi.json describe it.
//
// Whoever may open the socket may do everything: it has mode 0600 in a directory
// of mode 0700. Errors mean the same on both ways. Every change is written into
// the audit trail of service.control, with who made it.
package control

import (
	"context"
	"errors"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/store"
)

// The errors of operations, to be compared with errors.Is. store.ErrFull and
// store.ErrClosed are among them.
var (
	// ErrNotFound is returned when there is no such account, record or entry.
	ErrNotFound = store.ErrNotFound
	// ErrExists is returned when it is there already, such as an account.
	ErrExists = store.ErrExists
	// ErrInvalid is returned when an argument makes no sense, such as an address
	// that is none.
	ErrInvalid = errors.New("invalid argument")
	// ErrNotRunning is returned by what only a running server can do.
	ErrNotRunning = errors.New("no server runs on this data directory")
	// ErrRefused is returned when a configuration has errors and is not swapped in.
	ErrRefused = errors.New("the configuration has errors: nothing has changed")
	// ErrMissing is returned when this build lacks the module that does it.
	ErrMissing = errors.New("this build lacks a module")
)

// Invalid marks an error as ErrInvalid and keeps its text: for modules whose
// operations are called with an argument that makes no sense.
func Invalid(err error) error { return &kindError{kind: ErrInvalid, err: err} }

// Operations are all that commands can do.
type Operations interface {
	Users
	AppPasswords
	SecondFactors
	Blocks
	Locks
	Greylisting
	Quarantine
	Domains
	DomainSettings
	Configuration
	DKIMKeys
	Traces
	Statistics
	Checks
	Audit
	Process
}

// Process are the operations on the server itself.
type Process interface {
	// Reload swaps in the configuration file as it is now. ErrRefused comes with a
	// report that says why. ErrNotRunning if there is nothing to swap.
	Reload(ctx context.Context) (*Report, error)
	// Status tells what runs.
	Status(ctx context.Context) (*Status, error)
}

// Domain is a domain that lives here, and who gets its mail beside the accounts.
type Domain struct {
	Name string `json:"name"`
	// Aliases and CatchAll are as the configuration has them.
	Aliases  map[string][]string `json:"aliases,omitempty"`
	CatchAll string              `json:"catch_all,omitempty"`
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
	// Handlers are those that have failed since the start.
	Handlers []HandlerStatus `json:"handlers,omitempty"`
	// Reports are what services have to say of themselves.
	Reports []ModuleReport `json:"reports,omitempty"`
	// DNS is set while no name server answers.
	DNS *DNSOutage `json:"dns_outage,omitempty"`
	// CleanUps tell when old rows were last removed, by module.
	CleanUps []CleanUp `json:"clean_ups,omitempty"`
}

// HandlerStatus tells how a handler does that has given no verdict at times.
type HandlerStatus struct {
	Listener string `json:"listener"`
	Handler  string `json:"handler"`
	// State is ok, failing (from an error to the next verdict), or resting (it is not
	// asked for some seconds after repeated errors).
	State string    `json:"state" enum:"ok,failing,resting"`
	Since time.Time `json:"since,omitzero" doc:"When it began to fail, unless it is ok."`
	// Errors is how often there was no verdict, Passed how often that let a client or
	// a message pass.
	Errors      uint64    `json:"errors"`
	Passed      uint64    `json:"passed"`
	LastError   string    `json:"last_error"`
	LastErrorAt time.Time `json:"last_error_at"`
}

// The states of a HandlerStatus.
const (
	StateOK      = "ok"
	StateFailing = "failing"
	StateResting = "resting"
)

// ModuleReport is what a service has to say of itself.
type ModuleReport struct {
	Module string `json:"module" example:"service.learn"`
	Text   string `json:"text" doc:"For people."`
}

// DNSOutage is a time in which no name server answers.
type DNSOutage struct {
	Since time.Time `json:"since"`
	Error string    `json:"error"`
}

// CleanUp tells when the old rows of a module were last removed.
type CleanUp struct {
	Module string    `json:"module"`
	Last   time.Time `json:"last,omitzero"`
	// Removed is how many went then, Total how many since the start.
	Removed int64  `json:"removed"`
	Total   int64  `json:"total"`
	Error   string `json:"error,omitempty"`
}

// Health fills in what a running server knows of its handlers, its name servers and
// its old rows.
func (s *Status) Health(server *core.Server) {
	for _, h := range server.Health() {
		if h.Errors == 0 {
			continue
		}
		one := HandlerStatus{
			Listener: h.Listener, Handler: h.Handler, State: StateOK, Errors: h.Errors, Passed: h.Passed,
			LastError: h.LastError, LastErrorAt: h.LastErrorAt,
		}
		switch {
		case h.Resting:
			one.State, one.Since = StateResting, h.Since
		case h.Failing:
			one.State, one.Since = StateFailing, h.Since
		}
		s.Handlers = append(s.Handlers, one)
	}
	for _, r := range server.Reports() {
		s.Reports = append(s.Reports, ModuleReport(r))
	}
	if o := server.DNS().Outage; !o.Since.IsZero() {
		s.DNS = &DNSOutage{Since: o.Since, Error: o.Error}
	}
	for _, c := range server.CleanUps() {
		s.CleanUps = append(s.CleanUps, CleanUp(c))
	}
}

// Listener tells where a listener listens: host:port or unix:path.
type Listener struct {
	Name      string   `json:"name"`
	Kind      string   `json:"kind"`
	Addresses []string `json:"addresses"`
}
