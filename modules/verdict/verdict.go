// Package verdict is handler.verdict: it says the same about all that its when is
// true for. It is what other servers have access maps and header checks for.
package verdict

import (
	"context"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(&Verdict{}) }

// Verdict says one thing about each client, sender, recipient or message for which
// when is true.
//
//	verdict "lottery" {
//	  when   = matches(tx.header["Subject"], "(?i)lottery")
//	  action = "quarantine"
//	  reason = "somebody has won again"
//	}
type Verdict struct {
	// Action is what happens: accept skips the rest of the stage but for targets,
	// tag puts the handler's name among the tags, quarantine keeps the message out of
	// the inbox, discard takes it and delivers it nowhere, defer has the client come
	// again (451 4.7.1), reject refuses (550 5.7.1, at connect 554).
	Action string `config:"action,required" values:"accept,tag,quarantine,discard,defer,reject"`
	// Text is what the client is told by defer and reject, in one line of printable
	// US-ASCII of at most 200 bytes; without it that of the stage.
	Text string `config:"text" example:"We do not play"`
	// Reason is what the trace says, at most 200 bytes.
	Reason string `config:"reason" default:"as the configuration says"`

	name string
}

// actsAt are the stages of which the file chooses one or more.
const actsAt = mail.AtConnect | mail.AtHelo | mail.AtMail | mail.AtRcpt | mail.AtData

// Module describes the handler.
func (*Verdict) Module() core.Info {
	return core.Info{
		ID:             "handler.verdict",
		Stages:         actsAt,
		StageAttribute: true,
		DefaultStages:  mail.AtData,
		Conditional:    true,
		New:            func() core.Module { return new(Verdict) },
	}
}

// Provision takes the handler's name, which is the tag.
func (v *Verdict) Provision(c *core.Context) error {
	v.name = c.Name()
	return nil
}

// maxText bounds the texts, in bytes.
const maxText = 200

// Validate checks the texts.
func (v *Verdict) Validate() core.Problems {
	var problems core.Problems
	if strings.TrimSpace(v.Reason) == "" || mail.Printable(v.Reason, maxText) != v.Reason {
		problems.Errorf("reason", "the reason is one line of printable text of at most %d bytes, and not empty", maxText)
	}
	for i := range len(v.Text) {
		if c := v.Text[i]; c < ' ' || c > '~' || i >= maxText {
			problems.Errorf("text", "the text is one line of printable US-ASCII of at most %d bytes, since it goes into the reply", maxText)
			break
		}
	}
	if v.Text != "" && v.Action != "defer" && v.Action != "reject" {
		problems.Warnf("text", "nobody is told the text: only defer and reject have a reply of their own")
	}
	return problems
}

// ValidateStages refuses what says nothing at a stage without a message.
func (v *Verdict) ValidateStages(stages mail.Stages) core.Problems {
	var problems core.Problems
	early := stages &^ (mail.AtRcpt | mail.AtData)
	if early != 0 && (v.Action == "quarantine" || v.Action == "discard" || v.Action == "tag") {
		problems.Errorf("action", "%s is for messages: act at the stages rcpt or data, or use reject or defer", v.Action)
	}
	return problems
}

// Handle says it.
func (v *Verdict) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	switch v.Action {
	case "accept":
		return mail.Accept(v.Reason), nil
	case "quarantine":
		return mail.Quarantine(v.Reason), nil
	case "discard":
		return mail.Discard(v.Reason), nil
	case "defer":
		return mail.Defer(v.reply(451), v.Reason), nil
	case "reject":
		code := 550
		if tx.Stage == mail.StageConnect {
			code = 554
		}
		return mail.Reject(v.reply(code), v.Reason), nil
	default:
		tx.AddTag(v.name)
		return mail.Continue(v.Reason), nil
	}
}

// reply gives what the client is told; the zero Reply is that of the stage.
func (v *Verdict) reply(code int) mail.Reply {
	if v.Text == "" {
		return mail.Reply{}
	}
	return mail.NewReply(code, 7, 1, v.Text)
}

// Interface guards.
var (
	_ core.Handler        = (*Verdict)(nil)
	_ core.Provisioner    = (*Verdict)(nil)
	_ core.Validator      = (*Verdict)(nil)
	_ core.StageValidator = (*Verdict)(nil)
)
