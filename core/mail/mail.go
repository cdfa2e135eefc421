// Package mail holds the nouns of a mail server: session, transaction,
// envelope, message, address, stage, verdict. Handlers see nothing but these,
// whatever protocol brought the message in. The words are those of RFC 5321,
// RFC 5322 and RFC 5598.
//
// The package does no input or output but for the spool, which keeps the bytes
// of one message in memory or in a temporary file.
package mail

import (
	"crypto/rand"
	"crypto/tls"
	"net/netip"
	"time"
)

// Stage is a point in a session at which handlers are asked.
type Stage uint8

// The stages, in the order in which a session meets them. StageMail to
// StageData repeat for every message.
const (
	StageConnect Stage = iota // a client has connected
	StageHelo                 // it has said who it is (HELO, EHLO)
	StageAuth                 // it wants to log in (SMTP AUTH, IMAP LOGIN and AUTHENTICATE)
	StageMail                 // it has named the reverse-path
	StageRcpt                 // it has named a recipient
	StageData                 // the whole message is here
	NumStages    = iota
)

var stageNames = [NumStages]string{"connect", "helo", "auth", "mail", "rcpt", "data"}

// String gives the stage's name in the configuration.
func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return "unknown"
}

// ParseStage is the reverse of String.
func ParseStage(name string) (Stage, bool) {
	for i, n := range stageNames {
		if n == name {
			return Stage(i), true
		}
	}
	return 0, false
}

// Stages is a set of stages.
type Stages uint8

// Sets of one stage each, to be combined with |.
const (
	AtConnect Stages = 1 << StageConnect
	AtHelo    Stages = 1 << StageHelo
	AtAuth    Stages = 1 << StageAuth
	AtMail    Stages = 1 << StageMail
	AtRcpt    Stages = 1 << StageRcpt
	AtData    Stages = 1 << StageData
)

// At gives the set that holds only s.
func At(s Stage) Stages { return 1 << s }

// Has tells whether s is in the set.
func (ss Stages) Has(s Stage) bool { return ss&(1<<s) != 0 }

// Names lists the stages of the set in order.
func (ss Stages) Names() []string {
	var names []string
	for s := range Stage(NumStages) {
		if ss.Has(s) {
			names = append(names, s.String())
		}
	}
	return names
}

// Protocol is the protocol that a session speaks.
type Protocol string

// The protocols that feed chains.
const (
	ProtocolSMTP Protocol = "smtp"
	ProtocolIMAP Protocol = "imap"
)

// Session is one connection of one client. The listener owns it and fills it
// in; handlers read it. It is not safe for concurrent writing, and nobody
// writes it while a stage runs.
type Session struct {
	// ID names the session in the log and the trace.
	ID string
	// Protocol is what the session speaks.
	Protocol Protocol
	// Listener is the name of the listener block that accepted it.
	Listener string
	// RemoteAddr is the client's address, after the PROXY protocol if that is
	// in use; LocalAddr is the address that it connected to.
	RemoteAddr, LocalAddr netip.AddrPort
	// Helo is the argument of the last HELO or EHLO, as the client gave it.
	Helo string
	// TLS is nil as long as the connection is in the clear.
	TLS *tls.ConnectionState
	// User is the account that logged in, "" before.
	User string
	// Started is when the connection was accepted.
	Started time.Time
}

// Envelope is what SMTP says about a message outside of it (RFC 5321 section
// 2.3.1).
type Envelope struct {
	// ReversePath is where reports of failure go; the zero Address is the null
	// reverse-path.
	ReversePath Address
	// Recipients are those that were accepted so far, in order.
	Recipients []*Recipient
	// Size is what the client declared by SIZE= (RFC 1870), 0 if it did not.
	Size int64
	// SMTPUTF8 tells that the client asked for RFC 6531.
	SMTPUTF8 bool
}

// Recipient is one forward-path of a transaction.
type Recipient struct {
	// Address is where the message shall go.
	Address Address
	// Target is the name of the target that took the recipient in charge at
	// the rcpt stage; "" as long as none has.
	Target string
	// Accounts are those whose mailboxes the recipient stands for, by their
	// addresses, if that target keeps mail for accounts of this server.
	Accounts []string
	// Delivered is set by the target once the message is durable for this
	// recipient.
	Delivered bool
}

// idAlphabet is Crockford's base32 in lower case.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// IDLength is the length of an identifier, in characters.
const IDLength = 18

// NewID makes the identifier of a session or a message: nine characters of time
// in milliseconds and nine random ones (45 bits), safe in file names, header
// fields and replies. Identifiers sort by time, so that an index of them grows
// at its end.
func NewID(now time.Time) string {
	var id [IDLength]byte
	ms := now.UnixMilli()
	for i := 8; i >= 0; i-- {
		id[i] = idAlphabet[ms&31]
		ms >>= 5
	}
	rand.Read(id[9:])
	for i := 9; i < len(id); i++ {
		id[i] = idAlphabet[id[i]&31]
	}
	return string(id[:])
}
