// Package check tries a message beforehand: it goes through the chain of a listener
// as one from a client would, with the DNS, the daemons and the state that there are,
// and this server neither delivers, counts, learns nor remembers anything. What the
// daemons do on their own that are asked is theirs: a spam filter may learn from what
// it sees.
//
// It runs the stages connect, helo, mail, rcpt and data as the listener for SMTP
// does. Not part of a trial are what comes before the first command (the number of
// connections, who speaks before the greeting, the PROXY protocol), logins, and the
// limits of commands, errors and time of a session. Circuit breakers neither count
// it nor keep handlers from being asked.
package check

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// Bounds of a check.
const (
	// MaxZone is how many bytes the text of a zone may have.
	MaxZone = 1 << 20
	// MaxRecipients is how many recipients can be asked for.
	MaxRecipients = 100
	// MaxTime is how long a check may take in all, and MaxArrival how much of that the
	// message may take to come in, from when the check has its place on.
	MaxTime    = 5 * time.Minute
	MaxArrival = time.Minute
	// MaxTransactions is how many transactions are tried where recipients have to be
	// sent the message in one of their own.
	MaxTransactions = 10
)

// IDPrefix begins the identifiers of messages that are tried, and of no trace.
const IDPrefix = "check-"

// ErrSlow is returned when the message does not come in within MaxArrival.
var ErrSlow = fmt.Errorf("the message came too slowly: not all of it within %s", MaxArrival)

// ErrRequest is returned when the request makes no sense.
var ErrRequest = errors.New("the check makes no sense")

// requestError is an ErrRequest with a text of its own.
type requestError struct{ text string }

func (e requestError) Error() string { return e.text }
func (requestError) Unwrap() error   { return ErrRequest }

func bad(format string, args ...any) error { return requestError{fmt.Sprintf(format, args...)} }

// Request says who would send the message to whom.
type Request struct {
	// Listener is the name of the listener by which it comes in.
	Listener string `json:"listener" maxLength:"255" doc:"The name of the listener by which it comes in." example:"mx"`
	// IP is the client's address.
	IP netip.Addr `json:"ip" doc:"The client's address." example:"192.0.2.1"`
	// Helo is what the client says in EHLO; "" stands for its address in brackets.
	Helo string `json:"helo,omitempty" maxLength:"255" doc:"What the client says in EHLO; its address in brackets without it."`
	// From is the reverse-path; "" or <> is the null one.
	From string `json:"from" maxLength:"320" doc:"The reverse-path; empty or <> is the null one."`
	// To are the recipients.
	To []string `json:"to" minItems:"1" maxItems:"100" doc:"The recipients."`
	// User is the account as which the client would have logged in, "" if it has not.
	User string `json:"user,omitempty" maxLength:"320" doc:"The account as which the client would have logged in."`
	// TLS says that the connection is encrypted. It is so anyway where a client cannot
	// come otherwise: with TLS from the first byte on, and for a user who has logged in.
	TLS bool `json:"tls,omitempty" doc:"The connection is encrypted. It is so anyway at a listener with TLS from the first byte on, and for a user who has logged in."`
	// Now is the time that it is, standing still; the zero time means the real one.
	Now time.Time `json:"now,omitzero" doc:"The time that it is, standing still; the real one without it."`
	// Zone is the text of a zone file that answers in the place of the DNS: names that
	// are not in it do not exist. "" means the real DNS.
	Zone string `json:"zone,omitempty" maxLength:"1048576" doc:"A zone file that answers in the place of the DNS: names that are not in it do not exist."`
}

// Result is what became of the message.
type Result struct {
	// Accepted tells that the client's message would be accepted for every recipient,
	// also of those in further transactions.
	Accepted bool `json:"accepted" doc:"It would be accepted for every recipient, also of those in further transactions."`
	// Record is what would stand in the trace.
	Record *trace.Record `json:"trace" doc:"What would stand in the trace."`
	// Replies are what the client would be told, in order; the last one is final.
	Replies []Reply `json:"replies" doc:"What the client would be told, in order; the last one is final."`
	// Recipients are those of the request, then those that handlers have added.
	Recipients []Recipient `json:"recipients,omitempty" doc:"Those asked for, up to where the session ended, and those that handlers have added."`
	// Quarantine is why the message would not go into an inbox, "" if it would.
	Quarantine string `json:"quarantine,omitempty" doc:"Why it would not go into an inbox."`
	// Discarded tells that it would be accepted and thrown away.
	Discarded bool `json:"discarded,omitempty" doc:"It would be accepted and thrown away."`
	// Added and Removed are the header fields that would be, as they stand in the
	// message, unfolded, but for the Return-Path that a delivery adds.
	Added   []string `json:"added_fields,omitempty" doc:"Header fields that would be added, unfolded, the topmost first."`
	Removed []string `json:"removed_fields,omitempty" doc:"Header fields that would be removed, unfolded."`
	// Further are the transactions in which the client would send the message to the
	// recipients that were put off (Recipient.Later). They have none of their own.
	Further []*Result `json:"further,omitempty" doc:"The transactions in which the client would send it to the recipients that were put off."`
}

// Reply is what the client would be told at a stage.
type Reply struct {
	Stage     string `json:"stage"`
	Recipient string `json:"recipient,omitempty" doc:"At the stage rcpt."`
	Reply     string `json:"reply" example:"250 2.1.5 Recipient OK"`
}

// Recipient is what would become of a recipient.
type Recipient struct {
	Address string `json:"address"`
	// Accepted tells that the recipient was, whatever became of the message.
	Accepted bool `json:"accepted" doc:"Whatever becomes of the message."`
	// Later tells that the recipient was put off by 452 4.5.3: the client sends it the
	// message in a transaction of its own, which is one of Result.Further.
	Later bool `json:"later,omitempty" doc:"Put off to a transaction of its own, see further."`
	// Target is the handler that would deliver, Accounts those whose mail it is.
	Target   string   `json:"target,omitempty" doc:"The handler that would deliver."`
	Accounts []string `json:"accounts,omitempty" doc:"The accounts in whose mailboxes it would be."`
}

// Run tries a message on a host. The message is read as it would come over the
// wire. Errors are ErrRequest, those of core.NewTrial, or of reading the message.
func Run(ctx context.Context, host core.Host, r Request, message io.Reader) (result *Result, err error) {
	a, err := r.read(ctx, host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()
	trial, err := core.NewTrial(ctx, host, r.options(a))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, trial.Close()) }()
	ctx, cancel = trial.Bound(ctx)
	defer cancel()
	listener, receiver, err := receiverOf(trial, r.Listener)
	if err != nil {
		return nil, err
	}
	if r.TLS || receiver.Encrypts(r.User != "") {
		a.session.TLS = encrypted()
	}
	content := sha256.New()
	reception, err := receive(ctx, receiver, io.TeeReader(message, content))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reception.Close()) }()
	d := &dialog{asked: a, trial: trial, chains: listener.Chains, reception: reception}
	return d.run(ctx, r.id(content.Sum(nil)))
}

// options give the trial what the request says.
func (r *Request) options(a *asked) core.TrialOptions {
	o := core.TrialOptions{Domains: a.domains()}
	if !r.Now.IsZero() {
		o.Now = func() time.Time { return r.Now }
	}
	if r.Zone == "" {
		return o
	}
	o.Resolver = func(ctx context.Context) (*dns.Resolver, error) {
		resolver, err := dns.NewZone(ctx, r.Zone, dns.Options{Now: o.Now})
		if err != nil && ctx.Err() == nil {
			err = bad("%v", err)
		}
		return resolver, err
	}
	return o
}

// receive takes the message in, which must be there in time.
func receive(ctx context.Context, receiver core.Receiver, message io.Reader) (core.Reception, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, MaxArrival, ErrSlow)
	defer cancel()
	return receiver.Receive(&arriving{from: message, ended: func() error { return context.Cause(ctx) }})
}

// arriving reads a message until it is told why that has to end.
type arriving struct {
	from  io.Reader
	ended func() error
}

func (a *arriving) Read(p []byte) (int, error) {
	if err := a.ended(); err != nil {
		return 0, err
	}
	return a.from.Read(p)
}

// receiverOf finds the listener.
func receiverOf(t *core.Trial, name string) (core.TrialListener, core.Receiver, error) {
	l, ok := t.Listener(name)
	if !ok {
		return l, nil, bad("there is no listener %q; those of the configuration are: %s", name, strings.Join(t.Listeners(), ", "))
	}
	receiver, ok := l.Module.(core.Receiver)
	if ok {
		return l, receiver, nil
	}
	var others []string
	for _, other := range t.Listeners() {
		if o, _ := t.Listener(other); o.Module != nil {
			if _, takes := o.Module.(core.Receiver); takes {
				others = append(others, other)
			}
		}
	}
	if others == nil {
		return l, nil, bad("no mail comes in by the listener %q, whose kind is %s, nor by any other of the configuration", name, l.Kind)
	}
	return l, nil, bad("no mail comes in by the listener %q, whose kind is %s; it does by: %s", name, l.Kind, strings.Join(others, ", "))
}

// id makes the identifier of the message. It is the same whenever the same is asked,
// since handlers may judge by it (RFC 7489 section 6.6.4), and names no trace.
func (r *Request) id(content []byte) string {
	h := sha256.New()
	text, err := json.Marshal(r)
	if err != nil {
		text = nil // there is nothing in it that cannot be written
	}
	h.Write(text)
	h.Write(content)
	return IDPrefix + strings.ToLower(base32.HexEncoding.EncodeToString(h.Sum(nil))[:12])
}

// asked is a request in the server's nouns.
type asked struct {
	session  mail.Session
	from     mail.Address
	to       []mail.Address
	smtpUTF8 bool
}

// domains are those whose settings can hold for the message.
func (a *asked) domains() []string {
	list := make([]string, 0, len(a.to)+1)
	for _, address := range a.to {
		list = append(list, address.Domain)
	}
	if user, err := mail.ParseAddress(a.session.User); err == nil {
		list = append(list, user.Domain)
	}
	return list
}

// accounts is the service that knows who has an account.
type accounts interface {
	Exists(ctx context.Context, address string) (bool, error)
}

// read checks the request.
func (r *Request) read(ctx context.Context, host core.Host) (*asked, error) {
	if !r.IP.IsValid() {
		return nil, bad("the client has no address")
	}
	if len(r.To) == 0 || len(r.To) > MaxRecipients {
		return nil, bad("the message has %d recipients, and 1 to %d can be tried", len(r.To), MaxRecipients)
	}
	if len(r.Zone) > MaxZone {
		return nil, bad("the zone has %d bytes, and %d is the most", len(r.Zone), MaxZone)
	}
	a := &asked{session: mail.Session{
		Protocol: mail.ProtocolSMTP, Listener: r.Listener, Helo: r.helo(),
		RemoteAddr: netip.AddrPortFrom(r.IP.Unmap(), 0),
	}}
	if h := a.session.Helo; len(h) > 255 || strings.IndexFunc(h, func(c rune) bool { return c <= ' ' || c >= 0x7f }) >= 0 {
		return nil, bad("%q is nothing that a client can say in EHLO", h)
	}
	if err := r.readPaths(a); err != nil {
		return nil, err
	}
	if r.User == "" {
		return a, nil
	}
	user, err := mail.ParseAddress(r.User)
	if err != nil {
		return nil, bad("user %q: %v", r.User, err)
	}
	known, err := core.ServiceOf[accounts](host)
	if err != nil {
		return nil, err
	}
	a.session.User = user.Fold().String()
	there, err := known.Exists(ctx, a.session.User)
	if err == nil && !there {
		err = bad("there is no user %s", a.session.User)
	}
	return a, err
}

func (r *Request) helo() string {
	switch ip := r.IP.Unmap().WithZone(""); {
	case r.Helo != "":
		return r.Helo
	case ip.Is4():
		return "[" + ip.String() + "]"
	default:
		return "[IPv6:" + ip.String() + "]"
	}
}

func (r *Request) readPaths(a *asked) error {
	if from := strings.TrimSuffix(strings.TrimPrefix(r.From, "<"), ">"); from != "" {
		var err error
		if a.from, err = mail.ParseAddress(from); err != nil {
			return bad("reverse-path %q: %v", r.From, err)
		}
		a.smtpUTF8 = !isASCII(from)
	}
	for _, text := range r.To {
		to := strings.TrimSuffix(strings.TrimPrefix(text, "<"), ">")
		if strings.EqualFold(to, "postmaster") { // RFC 5321 section 4.5.1
			a.to = append(a.to, mail.Address{LocalPart: "postmaster"})
			continue
		}
		address, err := mail.ParseAddress(to)
		if err != nil {
			return bad("recipient %q: %v", text, err)
		}
		a.smtpUTF8 = a.smtpUTF8 || !isASCII(to)
		a.to = append(a.to, address)
	}
	return nil
}

func isASCII(text string) bool {
	return bytes.IndexFunc([]byte(text), func(c rune) bool { return c >= 0x80 }) < 0
}
