package control

import (
	"context"
	"io"
	"time"
)

// Quarantine are the operations on messages that are held back. Addresses and
// domains need not be in normal form. An empty user stands for all accounts that a
// message is held for.
type Quarantine interface {
	// Held lists the messages that match, the newest first, and gives the After of the
	// next page, "" if there is none: it looks at some messages at a time, so that a page
	// may have few or none and not be the last one. ErrNotFound if the domain of the
	// filter does not live here and nothing is held for it.
	Held(ctx context.Context, f HeldFilter, p Page) (list []Held, next string, err error)
	// HeldMessage gives one message with its header section; ErrNotFound if none of
	// that id is held, with what has become of it if that is known.
	HeldMessage(ctx context.Context, id string) (HeldMessage, error)
	// HeldContent gives the whole message, which the caller closes, and its size in
	// bytes.
	HeldContent(ctx context.Context, id string) (content io.ReadCloser, size int64, err error)
	// ReleaseHeld delivers a message into the INBOX of the accounts that it is held
	// for, or of that user alone, and gives these accounts. It is told to what learns
	// as wanted. ErrNotFound if it is not held, for that user.
	ReleaseHeld(ctx context.Context, id, user string) (accounts []string, err error)
	// AllowHeld is ReleaseHeld, and the author is remembered so that the next messages
	// for these accounts, their domains or everybody are not held.
	AllowHeld(ctx context.Context, a AllowAuthor) (AllowedHeld, error)
	// DeleteHeld forgets a message for the accounts that it is held for, or for that
	// user alone, and gives these accounts; ErrNotFound as for ReleaseHeld.
	DeleteHeld(ctx context.Context, id, user string) (accounts []string, err error)
	// AllowedAuthors lists who was allowed by AllowHeld, by scope and sender, and gives
	// the After of the next page.
	AllowedAuthors(ctx context.Context, p Page) (list []AllowedAuthor, next string, err error)
	// DisallowAuthor takes one back: scope is an account, a domain, or ScopeAll, as
	// AllowedAuthors has it.
	// ErrNotFound if it is not there.
	DisallowAuthor(ctx context.Context, scope, sender string) error
}

// HeldFilter chooses held messages; empty fields choose all.
type HeldFilter struct {
	// User is an account, Domain that of accounts. Only one of them may be set.
	User, Domain string
	// From is a part of the author's name or address, or of the reverse-path, in any
	// case of the letters.
	From string
	// Since leaves out what came before.
	Since time.Time
}

// Held is a message in quarantine.
type Held struct {
	// ID is that of the message's trace.
	ID string `json:"id"`
	// Received is when it came, Expires when it is forgotten.
	Received time.Time `json:"received"`
	Expires  time.Time `json:"expires"`
	// From is the field From for people, Author the address in it; "" if it has not
	// one address alone.
	From   string `json:"from"`
	Author string `json:"author,omitempty"`
	// Authenticated says how the author's domain has shown that it stands behind the
	// message, such as "dmarc=pass"; "" if it has not.
	Authenticated string `json:"authenticated,omitempty"`
	Subject       string `json:"subject"`
	MessageID     string `json:"message_id,omitempty"`
	ReversePath   string `json:"reverse_path"`
	// Handler is who quarantined it, Reason why.
	Handler string `json:"handler"`
	Reason  string `json:"reason"`
	// Scores are the points that handlers gave.
	Scores   []HeldScore `json:"scores,omitempty"`
	Listener string      `json:"listener"`
	RemoteIP string      `json:"remote_ip,omitempty"`
	// Size is in bytes.
	Size int64 `json:"size"`
	// For are the accounts that it is held for, at most MaxHeldFor of them, and
	// Accounts is how many there are.
	For      []HeldFor `json:"for"`
	Accounts int       `json:"accounts"`
}

// MaxHeldFor bounds the accounts that are named of one message.
const MaxHeldFor = 100

// HeldScore is what one handler gave a message.
type HeldScore struct {
	Handler string  `json:"handler"`
	Points  float64 `json:"points"`
}

// HeldFor is an account that a message is held for, and the recipient by which it
// is meant.
type HeldFor struct {
	Account   string `json:"account"`
	Recipient string `json:"recipient"`
}

// HeldMessage is a held message with its header section as it came.
type HeldMessage struct {
	Held
	Header string `json:"header"`
}

// AllowAuthor asks that an author's messages are held no more.
type AllowAuthor struct {
	// ID is a held message, which is released; User restricts it to one account.
	ID, User string
	// Scope is for whom: ScopeUser, ScopeDomain or ScopeAll; "" is ScopeUser.
	Scope string
	// Sender is an address, or a domain with its subdomains; "" is the author of the
	// message.
	Sender string
}

// The scopes of AllowAuthor.
const (
	ScopeUser   = "user"
	ScopeDomain = "domain"
	ScopeAll    = "all"
)

// AllowedHeld is what AllowHeld has done.
type AllowedHeld struct {
	// Accounts are those that have the message now.
	Accounts []string `json:"accounts"`
	// Allowed is what is remembered.
	Allowed []AllowedAuthor `json:"allowed"`
	// Authenticated is as in Held: without it, the next messages of this kind are held
	// all the same.
	Authenticated string `json:"authenticated,omitempty"`
}

// AllowedAuthor is an author whose messages are not held.
type AllowedAuthor struct {
	// Scope is an account, a domain, or ScopeAll.
	Scope string `json:"scope"`
	// Sender is an address, or a domain with its subdomains.
	Sender  string    `json:"sender"`
	Created time.Time `json:"created"`
}
