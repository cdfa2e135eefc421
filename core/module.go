package core

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// Problem is a mistake that a module's Validate finds; it names the attribute,
// so that the linter can point at the line.
type Problem = config.Problem

// Problems is a list of mistakes.
type Problems = config.Problems

// Handler judges a session or a message. Handle is called for each stage that
// the module declared, from many goroutines at once. It honours ctx. An error
// is not a verdict: the chain's on_error says what it means.
type Handler = chain.Handler

// Observer is a handler that is told how a stage ended that it took part in.
type Observer = chain.Observer

// Provisioner takes what the module needs from the Context and prepares. It
// opens no socket, starts no goroutine and touches nothing outside, since
// validate runs it too. The module keeps what it needs, not the Context.
type Provisioner interface {
	Provision(*Context) error
}

// Validator checks the settings against each other, after Provision.
type Validator interface {
	Validate() Problems
}

// StageChooser is a handler whose default stages depend on its settings. It is
// asked after Validate, where the file does not choose.
type StageChooser interface {
	DefaultStages() mail.Stages
}

// StageValidator is a handler that checks its settings against the stages at
// which it acts, after Validate.
type StageValidator interface {
	ValidateStages(mail.Stages) Problems
}

// Migrator owns tables. The core applies the migrations once all modules are
// valid and before any of them is started, so Provision cannot query yet.
type Migrator interface {
	Migrations() store.Migrations
}

// NameValidator is a handler whose settings name other handlers, or modules. It is
// asked with the names of all handlers of its chain, and of those that the build has.
type NameValidator interface {
	ValidateNames(known []string) Problems
}

// PlaceValidator is a handler that does its work only behind or in front of others.
// It is asked with the names of the modules of its chain, in the order in which they
// act (those of an earlier stage in front), and its own place among them. A problem without an attribute is that of the place.
type PlaceValidator interface {
	ValidatePlace(modules []string, place int) Problems
}

// Starter begins what the module does of its own accord: goroutines,
// connections. It is called once all modules are provisioned and valid.
type Starter interface {
	Start() error
}

// Cleaner releases what the module holds. It is called once, when nothing uses
// the instance any more, also when a later module's start failed.
type Cleaner interface {
	Cleanup() error
}

// Listener serves a protocol on sockets that the core owns: they outlive the
// instance when the configuration is swapped.
type Listener interface {
	Module
	// Sockets gives the addresses to listen on: "host:port" or "unix:path".
	Sockets() []string
	// Serve accepts sessions from l until it is closed, and then returns nil.
	// It is called once for each socket. Sessions that it began go on. Accepting
	// must never wait for one client.
	Serve(ctx context.Context, l net.Listener) error
	// Drain waits until the sessions have ended, asking idle ones to leave, and
	// closes those that remain when ctx ends.
	Drain(ctx context.Context) error
}

// LoginListener is a listener whose settings decide whether clients can log in.
// Any other lets them if it feeds the auth stage.
type LoginListener interface {
	TakesLogins() bool
}

// LoginHandler is a handler whose settings may make it serve only clients that
// have logged in. It is asked after Validate.
type LoginHandler interface {
	NeedsLogin() bool
}

// TLSSource gives certificates.
type TLSSource interface {
	Module
	// Certificate chooses by server name; nil without an error means that this
	// source has none for it.
	Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Sweeper owns rows that are of no use after some time. The core calls one
// instance of each module, hourly with jitter and in a write of its own, again
// and again as long as limit rows were removed. Sweep is quick: it removes at
// most limit rows whose time is over at now, which it finds by an index.
type Sweeper interface {
	Sweep(tx *store.Tx, now time.Time, limit int) (removed int, err error)
}

// Reporter says in status how a module does, beside what Measure gives in numbers.
// Report is called now and then, from any goroutine, and answers at once; "" is nothing
// to say. What strangers have sent does not belong into it. Only services are asked.
type Reporter interface {
	Report() string
}

// Measurer has figures of its own for the metrics and for status. Measure is
// called when somebody asks, on one instance of each module; it is quick and
// safe for concurrent use.
type Measurer interface {
	Measure() []Figure
}

// Figure is one measured value.
type Figure struct {
	// Name is in snake_case, without the module's name, and ends in _total for
	// what only grows. Help is a short sentence.
	Name, Help string
	Value      float64
}
