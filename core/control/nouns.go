package control

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// Page bounds a list: what comes behind After, at most Limit of it. The zero
// Limit means MaxPage.
type Page struct {
	// After is the Next of the page before, "" for the first one.
	After string
	Limit int
}

// MaxPage bounds how many entries a page has.
const MaxPage = 1000

// Block is a network from which nobody may connect.
type Block struct {
	// Network is one address or a whole network.
	Network netip.Prefix `json:"network"`
	// Source is who blocked it: admin, the name of an imported list, that of a
	// handler such as bruteforce, "settings of LISTENER/HANDLER" or "file PATH".
	Source string `json:"source"`
	// Reason says why, and Evidence what was seen, in words.
	Reason   string `json:"reason,omitempty"`
	Evidence string `json:"evidence,omitempty"`
	// Created is when it began, Expires when it ends; the zero time means never.
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// Lock is an account that is closed to networks from which its owner has not
// logged in lately.
type Lock struct {
	Account string `json:"account"`
	Reason  string `json:"reason"`
	// Evidence says what was seen.
	Evidence string    `json:"evidence,omitempty"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
}

// Triplet is an entry of the greylist.
type Triplet struct {
	ID int64 `json:"id"`
	// Client is the network, or the domain for which the client is authenticated.
	Client string `json:"client"`
	// Sender is the reverse-path in normal form, and Recipient an address or a
	// domain.
	Sender    string `json:"sender"`
	Recipient string `json:"recipient"`
	// State is greylisted, passed, or expired.
	State string `json:"state"`
	// First is when it was first seen, Last when last, Retry from when on it passes
	// and Expires when it is forgotten.
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Retry   time.Time `json:"retry,omitzero"`
	Expires time.Time `json:"expires"`
	// Attempts counts how often it was deferred, Passed how often let through.
	Attempts int `json:"attempts"`
	Passed   int `json:"passed"`
}

// TripletFilter chooses entries of the greylist; empty fields choose all.
type TripletFilter struct {
	State     string
	Client    string
	Sender    string
	Recipient string
}

// Allowed is a client or a sender that the greylist never defers.
type Allowed struct {
	// Subject is an address, a network, a domain or a mail address.
	Subject string    `json:"subject"`
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`
}

// AppPassword is a password of one program of a user.
type AppPassword struct {
	// ID names it; it is a part of the password.
	ID      string `json:"id"`
	Account string `json:"account"`
	Name    string `json:"name"`
	// Scopes are the protocols that it is good for: smtp, imap.
	Scopes  []string  `json:"scopes"`
	Created time.Time `json:"created"`
	// Expires is when it ends; the zero time means never.
	Expires time.Time `json:"expires,omitzero"`
	// LastUsed is when it last let a client in, and LastFrom from where; zero if
	// never.
	LastUsed time.Time  `json:"last_used,omitzero"`
	LastFrom netip.Addr `json:"last_from,omitzero"`
}

// Enrolment is what a user needs for a second factor. It is shown once.
type Enrolment struct {
	Account string `json:"account"`
	// Secret is the shared key in base32, and URI the same for authenticators
	// (otpauth://totp/…).
	Secret mail.Secret `json:"-"`
	URI    mail.Secret `json:"-"`
	// RecoveryCodes are each good for one login in place of a code.
	RecoveryCodes []mail.Secret `json:"-"`
}

// SecondFactor tells how an account stands with its second factor.
type SecondFactor struct {
	Account string `json:"account"`
	// State is off, pending (enrolled and not confirmed), or on.
	State string `json:"state"`
	// AppendCode says that clients may send the code behind the password.
	AppendCode bool      `json:"append_code"`
	Enrolled   time.Time `json:"enrolled,omitzero"`
	LastUsed   time.Time `json:"last_used,omitzero"`
	// RecoveryCodes is how many are left.
	RecoveryCodes int `json:"recovery_codes"`
}

// AuditEntry is one change that was made by a command or by the API.
type AuditEntry struct {
	ID   int64     `json:"id"`
	Time time.Time `json:"time"`
	// Actor is who did it: user NAME (uid N) of this machine, token "NAME", or
	// certificate NAME.
	Actor string `json:"actor"`
	// Via is the way: command or api. Address is the client's, "" on this machine.
	Via     string `json:"via"`
	Address string `json:"address,omitempty"`
	// Operation is the API's name of what was done, such as add-user, and Object
	// what it was done to.
	Operation string `json:"operation"`
	Object    string `json:"object"`
	// Before and After are what was there, as JSON, without secrets; nil where there
	// was nothing or it cannot be told.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	// Unfinished says that the process ended, or could not write, in the middle:
	// whether it was done is not known.
	Unfinished bool `json:"unfinished,omitempty"`
}

// ChangeFilter chooses entries of the audit trail; empty fields choose all.
type ChangeFilter struct {
	Actor     string
	Operation string
	Object    string
}
