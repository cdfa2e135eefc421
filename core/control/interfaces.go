package control

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
	"github.com/mox-like/mox-like/core/tuning"
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

// AppPasswords are the operations on the passwords of a user's programs.
// Addresses need not be in normal form.
type AppPasswords interface {
	// AddAppPassword makes a password for the account, with the name, the scopes and
	// the end that p has. The password is shown this once. ErrNotFound if there is no
	// such account.
	AddAppPassword(ctx context.Context, p AppPassword) (mail.Secret, AppPassword, error)
	// AppPasswords lists those of an account in the order in which they were made.
	AppPasswords(ctx context.Context, address string) ([]AppPassword, error)
	// RevokeAppPassword ends one; ErrNotFound if the account has none of that id.
	RevokeAppPassword(ctx context.Context, address, id string) error
}

// SecondFactors are the operations on codes by time (TOTP, RFC 6238). Addresses
// need not be in normal form.
type SecondFactors interface {
	// EnrolTOTP gives an account a secret, which is shown this once and asked for
	// once ConfirmTOTP has seen a code. ErrExists if one is in force.
	EnrolTOTP(ctx context.Context, address string) (Enrolment, error)
	// ConfirmTOTP puts the secret in force by a first code. ErrInvalid if it is wrong,
	// ErrNotFound if nothing is to be confirmed.
	ConfirmTOTP(ctx context.Context, address string, code mail.Secret) error
	// RemoveTOTP ends the second factor; ErrNotFound if there is none.
	RemoveTOTP(ctx context.Context, address string) error
	// SecondFactor tells how an account stands.
	SecondFactor(ctx context.Context, address string) (SecondFactor, error)
	// SetAppendCode lets the account's clients send the code behind the password, or
	// ends that.
	SetAppendCode(ctx context.Context, address string, on bool) error
	// VerifyTOTP tries a code or a recovery code, which is used up by it.
	VerifyTOTP(ctx context.Context, address string, code mail.Secret) (ok bool, err error)
}

// Blocks are the operations on networks from which nobody may connect.
type Blocks interface {
	// AddBlock blocks a network, and replaces the block that it has from the same
	// source. An empty source is SourceAdmin; Created is set.
	AddBlock(ctx context.Context, b Block) error
	// RemoveBlock ends the blocks of exactly that network, from all sources, and
	// forgets its failed logins, which alone are no block; ErrNotFound if there are
	// neither.
	RemoveBlock(ctx context.Context, network netip.Prefix) (removed int, err error)
	// Blocks lists them by network, and gives the After of the next page, "" at the
	// end.
	Blocks(ctx context.Context, p Page) (list []Block, next string, err error)
	// WhyBlocked gives what covers an address, the most specific first: blocks, the
	// settings of handlers that run, and networks that wait since logins failed.
	WhyBlocked(ctx context.Context, address netip.Addr) ([]Block, error)
	// ImportBlocks reads a network a line, with comments behind # or ;, and puts them
	// in the place of all that the source had. The zero time means no end. ErrInvalid
	// names the line, and nothing has changed.
	ImportBlocks(ctx context.Context, source string, list io.Reader, expires time.Time) (added int, err error)
}

// SourceAdmin is the source of blocks that the operator adds.
const SourceAdmin = "admin"

// Locks are the operations on accounts that are closed to unknown networks.
type Locks interface {
	// Locks lists them by account, and gives the After of the next page.
	Locks(ctx context.Context, p Page) (list []Lock, next string, err error)
	// Unlock opens an account and forgets its failed logins; ErrNotFound if there are
	// neither a lock nor failures.
	Unlock(ctx context.Context, account string) error
}

// Greylisting are the operations on the greylist.
type Greylisting interface {
	// Triplets lists the entries that match, and gives the After of the next page.
	Triplets(ctx context.Context, f TripletFilter, p Page) (list []Triplet, next string, err error)
	// ReleaseTriplet lets an entry pass from now on; ErrNotFound if there is none of
	// that id.
	ReleaseTriplet(ctx context.Context, id int64) error
	// AllowGreylist names a client or a sender that is never deferred.
	AllowGreylist(ctx context.Context, a Allowed) error
	// DisallowGreylist takes one away; ErrNotFound if it is not there.
	DisallowGreylist(ctx context.Context, subject string) error
	// GreylistAllowed lists them, and gives the After of the next page.
	GreylistAllowed(ctx context.Context, p Page) (list []Allowed, next string, err error)
}

// Domains are the operations on the domains of the configuration.
type Domains interface {
	// Domains lists the domains of the configuration in force, in the order of the
	// file.
	Domains(ctx context.Context) ([]Domain, error)
}

// DomainSettings are the operations on the settings that domains have in the
// database, over those of the file. tuning.Template stands for what domains
// inherit that have no setting of their own. Domains need not be in normal form.
type DomainSettings interface {
	// TunedDomains lists the domains that have settings in the database, and gives
	// the After of the next page.
	TunedDomains(ctx context.Context, p Page) (list []string, next string, err error)
	// DomainSettings lists what the database has for a domain, by handler and
	// attribute.
	DomainSettings(ctx context.Context, domain string) ([]tuning.Setting, error)
	// EffectiveSettings gives each attribute of a handler as it holds for a domain,
	// and where the value comes from, of all handlers if handler is "".
	EffectiveSettings(ctx context.Context, domain, handler string) ([]tuning.Effective, error)
	// ChangeDomain makes the changes, all of them or none, and puts them in force.
	// ErrRefused comes with a report that says what is wrong; a report without an
	// error has warnings. ErrInvalid if the domain does not live here or the changes
	// make no sense. The note is kept in the history and may be empty.
	ChangeDomain(ctx context.Context, domain string, changes []tuning.Change, note string) (*Report, error)
	// DomainHistory lists what was changed for a domain, the newest first, and gives
	// the After of the next page.
	DomainHistory(ctx context.Context, domain string, p Page) (list []tuning.Revision, next string, err error)
	// RollbackDomain makes the domain's settings what they were right after a revision
	// of its history; 0 is before the first. It is a change of its own, with the errors
	// of ChangeDomain and ErrNotFound.
	RollbackDomain(ctx context.Context, domain string, to int64) (*Report, error)
	// ExportConfig gives the files of the configuration, by name, with the settings of
	// the database merged in and the comments kept: those files that change.
	// ErrRefused if the file has errors.
	ExportConfig(ctx context.Context) (map[string][]byte, error)
}

// Traces are the operations on the log of decisions.
type Traces interface {
	// Trace finds the record of a message or a login by its id, or those of a session,
	// the oldest first, in pages: after is Next of the page before, "" for the first.
	// ErrNotFound if there are none.
	Trace(ctx context.Context, id, after string) (*trace.Found, error)
	// FindTraces gives the newest n records that match, of the newest trace.MaxScan
	// that began within the filter's time, the oldest of them first. n is at most
	// MaxTraces. They have no Settings, see TraceSettings.
	FindTraces(ctx context.Context, f trace.Filter, n int) (*trace.Found, error)
	// LastTraces gives the newest n records, the oldest of them first.
	LastTraces(ctx context.Context, n int) ([]*trace.Record, error)
	// TraceSettings gives the settings of a handler that entries refer to by a hash.
	// Trace gives most of them, once in a page; ErrNotFound if they are not kept.
	TraceSettings(ctx context.Context, hash string) ([]mail.Setting, error)
	// FollowTraces calls show for each record as it is added, until ctx ends (and
	// then returns nil) or show gives an error. It misses records when show is too
	// slow. ErrNotRunning if no server adds any.
	FollowTraces(ctx context.Context, show func(*trace.Record) error) error
}

// MaxTraces bounds how many records are asked for at once.
const MaxTraces = 10_000

// Statistics are what is counted of the log of decisions.
type Statistics interface {
	// HandlerStats counts what handlers said in the newest trace.MaxStats records of a
	// time, and what those would have done that are monitored only. ErrInvalid if there
	// is no such listener or domain.
	HandlerStats(ctx context.Context, q trace.StatsQuery) (*trace.Stats, error)
}

// Audit is the trail of what was changed by commands and by the API.
type Audit interface {
	// Audit lists the changes that match, the newest first, and gives the After of
	// the next page.
	Audit(ctx context.Context, f ChangeFilter, p Page) (list []AuditEntry, next string, err error)
}
