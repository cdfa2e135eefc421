// Package spamassassin holds the handler spamassassin, which has every message
// judged by SpamAssassin's daemon, spamd, and decides by its score.
//
// It speaks the protocol of spamc, version 1.5, of its own: the commands REPORT
// and TELL over TCP or a Unix socket, a connection a message. Spamd is sent the message as
// it would be stored, with the server's Received field, from which SpamAssassin's
// network tests take the client's address. What cannot be judged because of a
// fault (no daemon, a hang, an answer that makes no sense) is an error, and the
// chain's on_error says what it means. When too many messages wait for spamd, some
// are deferred.
//
// With learn, what users move into Junk and out of it is told to spamd, by way of
// service.learn, which keeps the lessons until spamd has taken them.
package spamassassin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(SpamAssassin{}) }

// SpamAssassin has messages judged by SpamAssassin's daemon, spamd, and acts on
// their score. It marks each message with the header fields X-Spam-Flag,
// X-Spam-Score and X-Spam-Status, and takes out all fields whose names begin with
// X-Spam- that a message came with. What is spam has the tag spamassassin=spam,
// too.
//
// A message that on_error lets pass has no mark. While the handler rests after
// repeated errors, when is false, or an earlier handler accepts, it is not asked
// at all, and such fields in a message are the sender's: who filters by them needs
// on_error = "defer" and no way past the handler.
//
// It takes about 0.1 s of spamd's time for a small message and 1 s for 100 KB, so
// put it behind what refuses for less.
type SpamAssassin struct {
	// Address is where spamd listens: "tcp:host:port" (its --listen) or "unix:path"
	// (its --socketpath).
	Address backend.Address `config:"address,required,fileonly" example:"tcp:127.0.0.1:783"`
	// User is whose settings and Bayes database spamd uses: "recipient" is the
	// address of the recipient's account, or else the recipient's address without what
	// follows a plus sign, in lower case, "domain" is the domain of that, anything else
	// is the name itself, and none leaves it to spamd. A message to several users, or
	// domains, and one to a user whose address has characters that are not for names of
	// files goes by what spamd takes without a name; what such a user teaches is not
	// learned.
	User string `config:"user,fileonly" example:"recipient"`
	// Learn has spamd told what users find out: that a message is spam when they
	// move or copy it into Junk, and that it is none when they take it from there to
	// another mailbox than Trash. It needs spamd's --allow-tell. What cannot be told
	// now is told later, for a week. Without user = "recipient", all users teach one
	// database, and each of them can have the mail of others called spam.
	Learn bool `config:"learn,fileonly" default:"false"`
	// Tag is the score from which a message is marked as spam: X-Spam-Flag is YES
	// and there is the tag spamassassin=spam. 0 marks what quarantine or reject hold
	// for only.
	Tag float64 `config:"tag" default:"5" min:"0" max:"100000"`
	// Quarantine is the score from which a message is kept out of the inbox; 0 means
	// never.
	Quarantine float64 `config:"quarantine" default:"5" min:"0" max:"100000"`
	// Reject is the score from which a message is refused with 550; 0 means never.
	Reject float64 `config:"reject" default:"10" min:"0" max:"100000"`
	// Weight is what a point of SpamAssassin's counts in the message's score, which
	// is the sum over all handlers; 0 leaves it out.
	Weight float64 `config:"weight" default:"1" min:"0" max:"1000"`
	// MaxSize is the size up to which messages are judged. Spam is small, and spamd
	// takes long for what is large.
	MaxSize config.Size `config:"max_size,fileonly" default:"512KB" min:"1KB" max:"64MB"`
	// TooLarge is what happens to a message over max_size. accept lets it pass
	// unjudged, with "Not scanned" in X-Spam-Status; tag adds the tag
	// spamassassin=too-large.
	TooLarge string `config:"too_large" default:"accept" values:"accept,tag,quarantine,reject,defer"`
	// MaxConnections is how many messages spamd judges at once for this server;
	// others wait, for a quarter of timeout, and are then deferred. It should not
	// exceed spamd's --max-children.
	MaxConnections int `config:"max_connections,fileonly" default:"5" min:"1" max:"1000"`
	// ConnectTimeout is how long the connection to spamd may take.
	ConnectTimeout time.Duration `config:"connect_timeout" default:"5s" min:"1ms" max:"5m"`

	client   *client
	name     string
	now      func() time.Time
	log      *zap.Logger
	learning *learning // nil if it does not learn
}

// Module describes the handler.
func (SpamAssassin) Module() core.Info {
	return core.Info{
		ID:     "handler.spamassassin",
		Edits:  true,
		Stages: mail.AtData,
		// From the wait for a free connection to the answer.
		Timeout: time.Minute,
		New:     func() core.Module { return new(SpamAssassin) },
	}
}

// Provision prepares the client. The number of messages at once is counted over
// all handlers that ask the same spamd, and across changes of the configuration.
func (s *SpamAssassin) Provision(ctx *core.Context) error {
	s.name, s.now, s.log = ctx.Name(), ctx.Now(), ctx.Logger()
	s.Address.Resolve(ctx.Path)
	name := fmt.Sprintf("spamassassin/%s/%d", s.Address, s.MaxConnections)
	shared, err := core.Shared(ctx, name, func() (*gate, error) { return newGate(s.MaxConnections), nil })
	if err != nil {
		return err
	}
	s.client = &client{address: s.Address, gate: shared, connectTimeout: s.ConnectTimeout}
	if s.Learn {
		s.findTeacher(ctx)
	}
	return nil
}

const (
	// maxUser bounds a name that spamd is sent.
	maxUser = 254
	// defaultThreshold is the default of tag and quarantine.
	defaultThreshold = 5
)

// Validate checks the settings.
func (s *SpamAssassin) Validate() core.Problems {
	var problems core.Problems
	if fault := s.Address.Fault(); fault != "" {
		problems.Errorf("address", "%s", fault)
	}
	if s.User != "" && !isUserName(s.User) {
		problems.Errorf("user", "%q is no name for spamd: up to %d letters, digits and the signs . _ + = - @, not beginning with a dot or a dash", mail.Printable(s.User, 80), maxUser)
	}
	if s.Learn && s.learning == nil {
		problems.Errorf("learn", "this build has no service.learn, which keeps what users teach; add the module to the build, or leave learn out")
	}
	thresholds := [...]struct {
		name  string
		score float64
	}{{"tag", s.Tag}, {"quarantine", s.Quarantine}, {"reject", s.Reject}}
	low := thresholds[0]
	for _, high := range thresholds[1:] {
		if high.score == 0 {
			continue
		}
		if low.score > high.score {
			// The one that was not left as it was is the one to look at.
			at := low.name
			if low.score == defaultThreshold {
				at = high.name
			}
			problems.Errorf(at, "%s is %s and must not exceed %s, which is %s; 0 turns a threshold off",
				low.name, number(low.score), high.name, number(high.score))
			break
		}
		low = high
	}
	return problems
}

// Handle has the message judged.
func (s *SpamAssassin) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if n := removeMarks(tx); n > maxForged {
		return mail.Reject(mail.NewReply(550, 7, 1, "Message has too many X-Spam fields"),
			fmt.Sprintf("not judged: it has more than %d fields of different names that begin with X-Spam-", maxForged)), nil
	}
	rendered, err := tx.Rendered()
	if err != nil {
		return mail.Verdict{}, err
	}
	if size := rendered.Size(); size > int64(s.MaxSize) {
		return s.tooLarge(tx, fmt.Sprintf("not judged: %d bytes are more than max_size, %s", size, s.MaxSize)), nil
	}
	// SpamAssassin looks here for the envelope, as in a message that was delivered.
	envelope := fmt.Sprintf("Return-Path: <%s>\r\n", tx.Envelope.ReversePath)
	began := s.now()
	found, err := s.client.report(ctx, connections.NetworkOf(tx.Session.RemoteAddr.Addr()), message{
		content: io.MultiReader(strings.NewReader(envelope), rendered.Reader()), size: int64(len(envelope)) + rendered.Size(),
		user: s.user(tx.Envelope.Recipients),
	})
	switch {
	case errors.Is(err, backend.ErrBusy):
		// Many messages at once are no fault of spamd's, for which on_error might let
		// them pass unjudged.
		return mail.Defer(mail.NewReply(451, 3, 2, "Spam filter is busy, try again later"), err.Error()), nil
	case err != nil:
		return mail.Verdict{}, err
	}
	return s.judge(tx, found, s.now().Sub(began).Round(time.Millisecond)), nil
}

// judge marks the message and acts on its score.
func (s *SpamAssassin) judge(tx *mail.Transaction, found report, took time.Duration) mail.Verdict {
	reaches := func(threshold float64) bool { return threshold > 0 && found.score >= threshold }
	tagged, quarantined, rejected := reaches(s.Tag), reaches(s.Quarantine), reaches(s.Reject)
	spam := tagged || quarantined || rejected
	s.mark(tx, found, spam)
	if s.Weight > 0 {
		tx.SetScore(s.name, s.Weight*found.score)
	}
	switch {
	case rejected:
		return mail.Reject(mail.NewReply(550, 7, 1, "Message looks like spam"), explain(found, "reject from "+number(s.Reject), took))
	case quarantined:
		return mail.Quarantine(explain(found, "quarantine from "+number(s.Quarantine), took))
	case tagged:
		return mail.Continue(explain(found, "tag from "+number(s.Tag), took))
	default:
		return mail.Continue(explain(found, "below all thresholds", took))
	}
}

func (s *SpamAssassin) tooLarge(tx *mail.Transaction, reason string) mail.Verdict {
	tx.AddHeaderField(fieldStatus, "No, Not scanned (too large)")
	switch s.TooLarge {
	case "tag":
		tx.AddTag("spamassassin=too-large")
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

// number gives a score as people write it.
func number(score float64) string {
	return strconv.FormatFloat(math.Round(score*100)/100, 'f', -1, 64)
}

// Interface guards.
var (
	_ core.Provisioner = (*SpamAssassin)(nil)
	_ core.Validator   = (*SpamAssassin)(nil)
	_ core.Handler     = (*SpamAssassin)(nil)
	_ core.Starter     = (*SpamAssassin)(nil)
	_ core.Cleaner     = (*SpamAssassin)(nil)
)
