package trace

import (
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// Kind is what a record is about.
type Kind string

// The kinds.
const (
	KindSession Kind = "session" // a connection, for what was judged before any message
	KindLogin   Kind = "login"   // one attempt to log in
	KindMessage Kind = "message" // one message transaction
)

// Record tells how a session, a login or a message was judged: how it ended, and
// what each handler said on the way. Once it is added it must not be changed.
type Record struct {
	// ID is the transaction's, which the client saw in the reply. IDs sort by
	// time.
	ID string
	// Session is the ID of the connection.
	Session string
	Kind    Kind
	// Time is when it ended, Duration how long it took.
	Time     time.Time
	Duration time.Duration
	// Protocol is "smtp" or "imap", Listener the name of the listener's block.
	Protocol, Listener string
	RemoteIP           string
	Helo               string
	// User is who logged in, or tried to.
	User string
	// ReversePath is "" for the null reverse-path and outside of messages.
	ReversePath string
	// Recipients are those that were accepted.
	Recipients []string
	// MessageID is the value of the Message-ID field.
	MessageID string
	// Size is that of the message as it came, in bytes.
	Size    int64
	Outcome Outcome
	// Entries are what the handlers said, in order.
	Entries []mail.Entry
	// Settings are those that the entries refer to, by the hash in hexadecimal digits.
	// Only Lookup gives them, each once in a page, with the first record that needs it.
	Settings map[string][]mail.Setting
}

// Outcome is how a session, a login or a message ended.
type Outcome struct {
	// Action is the name of the action: accept where nobody was against it, quarantine
	// where the message was accepted and kept out of the inbox, else that of the verdict.
	Action string `json:"action"`
	// Handler is the name of the handler that decided, "" if none did: of a quarantine
	// the one that wanted it.
	Handler string `json:"handler,omitempty"`
	// Reply is what the client was told if it was refused.
	Reply string `json:"reply,omitempty"`
	// Reason is what the operator is told.
	Reason string `json:"reason,omitempty"`
}

// NewRecord makes the record of a transaction that ended with o at the time now.
// It takes over the transaction's entries.
func NewRecord(kind Kind, tx *mail.Transaction, o mail.Outcome, now time.Time) *Record {
	r := &Record{
		ID: tx.ID, Kind: kind, Time: now, Duration: max(0, now.Sub(tx.Started)),
		ReversePath: tx.Envelope.ReversePath.String(),
		Size:        tx.Envelope.Size,
		Outcome:     Outcome{Action: o.Action.String(), Handler: o.Handler, Reason: o.Reason},
		Entries:     tx.Entries,
	}
	switch {
	case kind == KindMessage && isAccepted(r.Outcome.Action) && tx.Quarantined() != "":
		r.Outcome.Action, r.Outcome.Handler, r.Outcome.Reason = mail.ActionQuarantine.String(), quarantiner(tx), tx.Quarantined()
	case kind == KindLogin && o.Action == mail.ActionContinue:
		r.Outcome.Action = mail.ActionAccept.String() // nobody had a word against it: it is in
	}
	if o.Refused() && o.Reply.Code != 0 {
		r.Outcome.Reply = o.Reply.String()
	}
	r.describeSession(tx)
	if n := len(tx.Envelope.Recipients); n > 0 {
		r.Recipients = make([]string, n)
		for i, recipient := range tx.Envelope.Recipients {
			r.Recipients[i] = recipient.Address.String()
		}
	}
	if m := tx.Message; m != nil {
		r.Size, r.MessageID = m.Size, m.Header.Get("Message-ID")
	}
	return r
}

// isAccepted tells whether an outcome's action let something pass.
func isAccepted(action string) bool {
	return action == mail.ActionAccept.String() || action == mail.ActionContinue.String()
}

// quarantiner gives the handler whose reason the quarantine of a message has.
func quarantiner(tx *mail.Transaction) string {
	for i := range tx.Entries {
		if e := &tx.Entries[i]; quarantines(e) && e.Reason == tx.Quarantined() {
			return e.Handler
		}
	}
	return ""
}

// quarantines tells whether an entry's verdict, which was acted on, was quarantine.
func quarantines(e *mail.Entry) bool { return e.Action == mail.ActionQuarantine && e.Note == "" }

func (r *Record) describeSession(tx *mail.Transaction) {
	if s := tx.Session; s != nil {
		r.Session, r.Protocol, r.Listener = s.ID, string(s.Protocol), s.Listener
		r.Helo, r.User = s.Helo, s.User
		if s.RemoteAddr.IsValid() {
			r.RemoteIP = s.RemoteAddr.Addr().String()
		}
	}
	if user := tx.Authenticated(); user != "" {
		r.User = user
	} else if tx.Credentials != nil {
		r.User = tx.Credentials.Username
	}
}
