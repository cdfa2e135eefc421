// Package rspamd holds the handler rspamd, which has every message judged by
// rspamd, and does what it says.
//
// It speaks rspamd's own protocol, /checkv2 over HTTP, to a worker of the kind
// normal, by TCP or a Unix socket; no proxy worker and no milter is needed. Rspamd
// is sent the message as it would be stored, and in the fields of the request what
// the server knows of the client. Its answer is an action, a score, the symbols
// that led to them, and changes to the header section. The envelope is not changed:
// what rspamd says about that (change_from, add_rcpt) is left alone.
//
// What cannot be judged because of a fault (no daemon, a hang, an answer that makes
// no sense) is an error, and the chain's on_error says what it means. When too many
// messages wait for rspamd, some are deferred. Where learn is on, rspamd is told by
// the learning service what people call spam, at its controller worker.
package rspamd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(&Rspamd{}) }

// Rspamd has messages judged by rspamd, and does what it says: rspamd's own
// configuration has the thresholds. It marks each message with the header fields
// X-Spam-Flag, X-Spam-Score and X-Spam-Status, and what rspamd calls spam with
// X-Spam: Yes and the tag rspamd=spam. It takes out all fields whose names begin
// with X-Spam, X-Spamd- or X-Rspamd- that a message came with. Header fields that
// rspamd's modules want to add or remove (milter_headers, dkim_signing) are added
// and removed; so put handlers that sign behind it.
//
// A message that on_error lets pass has no mark. While the handler rests after
// repeated errors, when is false, or an earlier handler accepts, it is not asked
// at all, and such fields in a message are the sender's: who filters by them needs
// on_error = "defer" and no way past the handler.
//
// In mode monitor the message is marked, and neither its other fields nor its
// subject are changed.
//
// A trial is judged like a message; rspamd keeps it out of its history and
// statistics, but not out of its own automatic learning, greylisting and rate
// limits, where those are on.
type Rspamd struct {
	// Address is where rspamd's normal worker listens: "tcp:host:port" or
	// "unix:path" (its bind_socket).
	Address backend.Address `config:"address,required,fileonly" example:"tcp:127.0.0.1:11333"`
	// Password is sent with each request, for a worker or controller that wants one.
	// It belongs into env("NAME").
	Password mail.Secret `config:"password,fileonly"`
	// Reject is what happens where rspamd says reject: reject refuses the message
	// with 550, quarantine keeps it out of the inbox, tag delivers it with the marks
	// of spam.
	Reject string `config:"reject" default:"reject" values:"reject,quarantine,tag"`
	// AddHeader is what happens where rspamd says add header or rewrite subject: tag
	// delivers the message with the marks of spam, quarantine keeps it out of the
	// inbox, too.
	AddHeader string `config:"add_header" default:"tag" values:"tag,quarantine"`
	// RewriteSubject lets rspamd write another subject where it says rewrite subject.
	RewriteSubject bool `config:"rewrite_subject" default:"true"`
	// Greylist is what happens where rspamd says greylist: accept delivers the
	// message, with the tag rspamd=greylist, and leaves greylisting to this server's
	// own handler; defer refuses it with 451 each time that rspamd says so.
	Greylist string `config:"greylist" default:"accept" values:"accept,defer"`
	// QuarantineScore is a score of rspamd's from which a message is kept out of the
	// inbox, whatever the action; 0 leaves it to the action.
	QuarantineScore float64 `config:"quarantine_score" default:"0" min:"0" max:"100000"`
	// RejectScore is a score of rspamd's from which a message is refused with 550,
	// whatever the action; 0 leaves it to the action.
	RejectScore float64 `config:"reject_score" default:"0" min:"0" max:"100000"`
	// Weight is what a point of rspamd's counts in the message's score, which is the
	// sum over all handlers; 0 leaves it out.
	Weight float64 `config:"weight" default:"1" min:"0" max:"1000"`
	// MaxSize is the size up to which messages are judged. Rspamd keeps a message in
	// memory, and takes none over its own max_message, 50MB.
	MaxSize config.Size `config:"max_size,fileonly" default:"10MB" min:"1KB" max:"64MB"`
	// TooLarge is what happens to a message over max_size. accept lets it pass
	// unjudged, with "Not scanned" in X-Spam-Status; tag adds the tag
	// rspamd=too-large. It is the same for a message that rspamd itself finds too
	// large. One to which the answer is longer than is read (32 MiB, 4 MiB of them
	// without URLs and addresses) does not pass: quarantine and defer are done, and in
	// place of the others it is refused with 550.
	TooLarge string `config:"too_large" default:"accept" values:"accept,tag,quarantine,reject,defer"`
	// MaxConnections is how many messages rspamd judges at once for this server;
	// others wait, for a quarter of timeout, and are then deferred.
	MaxConnections int `config:"max_connections,fileonly" default:"20" min:"1" max:"1000"`
	// ConnectTimeout is how long the connection to rspamd may take.
	ConnectTimeout time.Duration `config:"connect_timeout,fileonly" default:"5s" min:"1ms" max:"5m"`
	// Learn tells rspamd what people move into Junk (spam), and out of it or release
	// from the quarantine (ham).
	Learn bool `config:"learn,fileonly" default:"false"`
	// Controller is where rspamd's controller worker listens, in the form of address;
	// learning needs it.
	Controller backend.Address `config:"controller,fileonly" example:"tcp:127.0.0.1:11334"`

	client  *client
	teacher *teacher
	school  school // nil if nobody is taught
	forget  func()
	name    string
	host    string
	now     func() time.Time
}

// Module describes the handler.
func (*Rspamd) Module() core.Info {
	return core.Info{
		ID:     "handler.rspamd",
		Edits:  true,
		Stages: mail.AtData,
		// From the wait for a free connection to the answer; rspamd gives up after 8 s
		// (its task_timeout).
		Timeout: 20 * time.Second,
		New:     func() core.Module { return new(Rspamd) },
	}
}

// Provision prepares the client. The number of messages at once is counted over
// all handlers that ask the same rspamd, and across changes of the configuration.
func (r *Rspamd) Provision(c *core.Context) error {
	r.name, r.host, r.now = c.Name(), c.Hostname(), c.Now()
	r.Address.Resolve(c.Path)
	gate, err := core.Shared(c, fmt.Sprintf("rspamd/gate/%s/%d", r.Address, r.MaxConnections),
		func() (*backend.Gate, error) { return backend.NewGate("rspamd", r.MaxConnections), nil })
	if err != nil {
		return err
	}
	worker, err := r.server(c, r.Address)
	if err != nil {
		return err
	}
	r.client = &client{server: worker, gate: gate}
	if !r.Learn || r.Controller.Name == "" || c.Trial() {
		return nil
	}
	r.Controller.Resolve(c.Path)
	controller, err := r.server(c, r.Controller)
	if err != nil {
		return err
	}
	r.teacher = &teacher{server: controller, log: c.Logger(), maxSize: int64(r.MaxSize)}
	r.school, err = core.Service[school](c)
	return err
}

// server gives a worker with connections that are shared by all who ask it.
func (r *Rspamd) server(c *core.Context, address backend.Address) (server, error) {
	connections, err := core.Shared(c, fmt.Sprintf("rspamd/http/%s/%s", address, r.ConnectTimeout),
		func() (*pool, error) { return newPool(address, r.ConnectTimeout), nil })
	return server{address: address, pool: connections, password: r.Password}, err
}

// Validate checks the settings.
func (r *Rspamd) Validate() core.Problems {
	var problems core.Problems
	if fault := r.Address.Fault(); fault != "" {
		problems.Errorf("address", "%s", fault)
	}
	if fault := r.Controller.Fault(); fault != "" {
		problems.Errorf("controller", "%s", fault)
	}
	if r.Password != "" && headerValue(r.Password.Reveal(), maxPassword) != r.Password.Reveal() {
		problems.Errorf("password", "the password has control characters or more than %d bytes: rspamd cannot be sent it", maxPassword)
	}
	if r.Learn && r.Controller.Name == "" {
		problems.Errorf("learn", "rspamd learns at its controller worker: say where that listens, such as controller = \"tcp:127.0.0.1:11334\"")
	}
	if r.RejectScore > 0 && r.QuarantineScore > r.RejectScore {
		problems.Errorf("quarantine_score", "quarantine_score is %s and must not exceed reject_score, which is %s; 0 turns either off",
			number(r.QuarantineScore), number(r.RejectScore))
	}
	return problems
}

// Start has the learning service tell rspamd what it learns.
func (r *Rspamd) Start() error {
	if r.school != nil {
		r.forget = r.school.Teach("rspamd "+r.Controller.String(), r.teacher.teach)
	}
	return nil
}

// Cleanup ends that.
func (r *Rspamd) Cleanup() error {
	if r.forget != nil {
		r.forget()
	}
	return nil
}

// Handle has the message judged.
func (r *Rspamd) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if n := removeMarks(tx); n > maxForged {
		return mail.Reject(mail.NewReply(550, 7, 1, "Message has too many X-Spam fields"),
			fmt.Sprintf("not judged: it has more than %d fields of different names that begin with X-Spam or X-Rspamd-", maxForged)), nil
	}
	rendered, err := tx.Rendered()
	if err != nil {
		return mail.Verdict{}, err
	}
	if size := rendered.Size(); size > int64(r.MaxSize) {
		return r.tooLarge(tx, fmt.Sprintf("not judged: %d bytes are more than max_size, %s", size, r.MaxSize)), nil
	}
	began := r.now()
	found, err := r.client.check(ctx, connections.NetworkOf(tx.Session.RemoteAddr.Addr()), r.fields(tx), rendered)
	switch {
	case errors.Is(err, backend.ErrBusy):
		// Many messages at once are no fault of rspamd's, for which on_error might let
		// them pass unjudged.
		return mail.Defer(mail.NewReply(451, 3, 2, "Spam filter is busy, try again later"), err.Error()), nil
	case errors.Is(err, errTooLarge):
		return r.tooLarge(tx, "not judged: "+err.Error()), nil
	case errors.Is(err, errTooMuch):
		return r.tooComplex(tx, "not judged: "+err.Error()), nil
	case err != nil:
		return mail.Verdict{}, err
	}
	return r.judge(tx, found, rendered.Head(), r.now().Sub(began).Round(time.Millisecond)), nil
}

func (r *Rspamd) tooLarge(tx *mail.Transaction, reason string) mail.Verdict {
	tx.AddHeaderField(fieldStatus, "No, Not scanned (too large)")
	switch r.TooLarge {
	case "tag":
		tx.AddTag("rspamd=too-large")
		return mail.Continue(reason)
	case "quarantine":
		return mail.Quarantine(reason)
	case "reject":
		return mail.Reject(mail.NewReply(552, 3, 4, "Message is too large to be checked for spam"), reason)
	case "defer":
		return mail.Defer(mail.NewReply(452, 3, 4, "Message is too large to be checked for spam now"), reason)
	default:
		return mail.Continue(reason)
	}
}

// errTooLarge is returned for a message that rspamd finds too large.
var errTooLarge = errors.New("message is too large for rspamd")

// tooComplex is what happens to a message that is judged, but has the answer be longer
// than is read: who sends it knows what he does, so it does not pass.
func (r *Rspamd) tooComplex(tx *mail.Transaction, reason string) mail.Verdict {
	const text = "Message is too complex to be checked for spam"
	tx.AddHeaderField(fieldStatus, "No, Not scanned (too complex)")
	switch r.TooLarge {
	case "quarantine":
		return mail.Quarantine(reason)
	case "defer":
		return mail.Defer(mail.NewReply(451, 6, 0, text), reason)
	default:
		return mail.Reject(mail.NewReply(550, 6, 0, text), reason)
	}
}

// Interface guards.
var (
	_ core.Provisioner = (*Rspamd)(nil)
	_ core.Validator   = (*Rspamd)(nil)
	_ core.Starter     = (*Rspamd)(nil)
	_ core.Cleaner     = (*Rspamd)(nil)
	_ core.Handler     = (*Rspamd)(nil)
)
