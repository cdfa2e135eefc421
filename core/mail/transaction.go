package mail

import (
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Transaction is what handlers look at and write on: one mail transaction, or,
// for the stages before MAIL, the session alone. It is used by one handler at a
// time, but for a parallel block, whose handlers each get a fork of their own.
type Transaction struct {
	// ID names the message in the reply, the Received field, the log and the
	// trace; for the stages before MAIL it is the session's.
	ID string
	// Session is the connection; it is never nil.
	Session *Session
	// Stage is the stage that runs; the chain sets it.
	Stage Stage
	// Envelope is filled in from the mail stage on.
	Envelope Envelope
	// Recipient is the one in question at the rcpt stage. It joins the envelope
	// when the stage ends well.
	Recipient *Recipient
	// Credentials are what the client logs in with, at the auth stage only.
	Credentials *Credentials
	// Message is the whole message, at the data stage only.
	Message *Message
	// Started is when the transaction began.
	Started time.Time
	// Trial says that somebody only wants to know how it would be judged: handlers
	// look at what is there, and neither deliver, count, learn nor remember.
	Trial bool
	// Monitored says that the verdict of the handler that is asked now is only
	// recorded: it marks the message, and changes nothing else about it.
	Monitored bool
	// Entries is the trace so far; the chain appends to it.
	Entries []Entry

	user       string
	quarantine string
	discard    bool
	edits      []edit
	dropped    []int // indexes of fields of the message, in order
	results    []AuthResult
	marks      []mark
	added      []Address
	owned      []io.Closer
	shared     *shared
}

// shared is what a transaction and its forks have in common.
type shared struct {
	mu    sync.Mutex
	found map[any]*finding
}

type finding struct {
	once  sync.Once
	value any
	err   error
}

// edit is one change to the header section. It is applied when the message is
// stored or sent.
type edit struct {
	remove bool
	name   string
	field  string
}

// NewTransaction begins a transaction of a session.
func NewTransaction(id string, s *Session, started time.Time) *Transaction {
	return &Transaction{ID: id, Session: s, Started: started, Entries: make([]Entry, 0, 8), shared: new(shared)}
}

// Authenticate says that the client has proved to be user, an account's
// address. The listener makes it the session's user once the whole auth stage
// has ended well.
func (tx *Transaction) Authenticate(user string) { tx.user = user }

// Authenticated gives the user of Authenticate, "" if no handler called it.
func (tx *Transaction) Authenticated() string { return tx.user }

// SetQuarantine keeps the message out of the inbox. The first reason stays.
func (tx *Transaction) SetQuarantine(reason string) {
	if tx.quarantine == "" {
		tx.quarantine = reason
	}
}

// Quarantined gives the reason of the quarantine, "" if there is none.
func (tx *Transaction) Quarantined() string { return tx.quarantine }

// SetDiscard lets targets take the message without delivering it.
func (tx *Transaction) SetDiscard() { tx.discard = true }

// Discarded tells whether a handler discarded the message.
func (tx *Transaction) Discarded() bool { return tx.discard }

// AddHeaderField puts a field on top of the header section. The value may be
// folded already; it must not end in a line break. Line breaks that are not
// folds are made into spaces, so that no value can end the header section.
func (tx *Transaction) AddHeaderField(name, value string) {
	tx.edits = append(tx.edits, edit{name: name, field: name + ": " + foldSafe(value) + "\r\n"})
}

// AddFieldBelow is AddHeaderField for a field that is to stand below all that were
// added so far: the server's own Received field, above which what it found out is
// to stand (RFC 5321 section 4.4, RFC 7208 section 9.1), and what belongs below
// that.
func (tx *Transaction) AddFieldBelow(name, value string) {
	tx.edits = slices.Insert(tx.edits, 0, edit{name: name, field: name + ": " + foldSafe(value) + "\r\n"})
}

// RemoveHeaderFields takes every field of that name out of the message as it
// came, and those that were added so far.
func (tx *Transaction) RemoveHeaderFields(name string) {
	tx.edits = slices.DeleteFunc(tx.edits, func(e edit) bool { return !e.remove && strings.EqualFold(e.name, name) })
	tx.edits = append(tx.edits, edit{remove: true, name: name})
}

// RemoveHeaderField takes one field out of the message as it came: that of the
// index in Message.Header.Fields. Those that were added stay.
func (tx *Transaction) RemoveHeaderField(index int) {
	if i, found := slices.BinarySearch(tx.dropped, index); !found {
		tx.dropped = slices.Insert(tx.dropped, i, index)
	}
}

// Rendered gives the message with all edits applied, in one piece: added
// fields, the last one on top, then the header section without the removed
// fields, then the body. The second result is the length of its header section
// with the empty line.
func (tx *Transaction) Rendered() (*Rendering, error) {
	return render(tx.Message, tx.finalEdits(), tx.dropped)
}

// Once computes a finding about this transaction at the first call and gives
// the same value and error to every later one with that key, in forks too. Keys
// are of a type private to the package that computes.
func (tx *Transaction) Once(key any, compute func() (any, error)) (any, error) {
	tx.shared.mu.Lock()
	if tx.shared.found == nil {
		tx.shared.found = make(map[any]*finding)
	}
	f := tx.shared.found[key]
	if f == nil {
		f = new(finding)
		tx.shared.found[key] = f
	}
	tx.shared.mu.Unlock()
	f.once.Do(func() { f.value, f.err = compute() })
	return f.value, f.err
}

// Judgement is what handlers have said about a transaction without refusing it:
// points, tags, quarantine and discard.
type Judgement struct {
	marks      []mark
	quarantine string
	discard    bool
}

// Judgement gives what was said so far.
func (tx *Transaction) Judgement() Judgement {
	return Judgement{marks: slices.Clone(tx.marks), quarantine: tx.quarantine, discard: tx.discard}
}

// SetJudgement forgets what was said since Judgement gave j: what was said about a
// recipient that was refused does not concern the others.
func (tx *Transaction) SetJudgement(j Judgement) {
	tx.marks, tx.quarantine, tx.discard = j.marks, j.quarantine, j.discard
}

// Fork gives a transaction for one branch of a parallel block. It shares
// everything but the edits and marks, which Merge brings back.
func (tx *Transaction) Fork() *Transaction {
	fork := *tx
	fork.edits, fork.dropped, fork.Entries = nil, nil, nil
	fork.results, fork.marks = slices.Clone(tx.results), slices.Clone(tx.marks)
	return &fork
}

// Merge takes over the edits and marks of a fork.
func (tx *Transaction) Merge(fork *Transaction) {
	for _, e := range fork.edits {
		if e.remove {
			tx.RemoveHeaderFields(e.name)
		} else {
			tx.edits = append(tx.edits, e)
		}
	}
	for _, index := range fork.dropped {
		tx.RemoveHeaderField(index)
	}
	if fork.user != "" {
		tx.user = fork.user
	}
	for _, r := range fork.results {
		tx.SetAuthResult(r)
	}
	for _, m := range fork.marks {
		tx.setMark(m)
	}
	tx.SetQuarantine(fork.quarantine)
	tx.discard = tx.discard || fork.discard
	tx.Entries = append(tx.Entries, fork.Entries...)
}

// foldSafe makes a value that cannot break out of its field: a line break stays
// only if white space follows it.
func foldSafe(v string) string {
	if isFoldSafe(v) {
		return v
	}
	var b strings.Builder
	b.Grow(len(v))
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case isFold(v[i:]):
			b.WriteString("\r\n")
			i++
		case c == '\r' || c == '\n' || c == 0:
			b.WriteByte(' ')
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// isFoldSafe tells whether every line break of v is a fold.
func isFoldSafe(v string) bool {
	for {
		i := strings.IndexByte(v, '\r')
		if i < 0 {
			return strings.IndexByte(v, '\n') < 0 && strings.IndexByte(v, 0) < 0
		}
		if !isFold(v[i:]) || strings.IndexByte(v[:i], '\n') >= 0 || strings.IndexByte(v[:i], 0) >= 0 {
			return false
		}
		v = v[i+2:]
	}
}

// isFold tells whether v begins with a line break that white space follows.
func isFold(v string) bool {
	return len(v) > 2 && v[0] == '\r' && v[1] == '\n' && (v[2] == ' ' || v[2] == '\t')
}
