package rspamd

import (
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// Rspamd's actions; each may have its own, too, which mean nothing here.
const (
	actionNone       = "no action"
	actionGreylist   = "greylist"
	actionAddHeader  = "add header"
	actionSubject    = "rewrite subject"
	actionSoftReject = "soft reject"
	actionReject     = "reject"
	actionQuarantine = "quarantine"
	actionDiscard    = "discard"
)

// consequence is what an answer leads to.
type consequence struct {
	action mail.Action
	// spam marks the message.
	spam bool
	// why is for the reason; "" if it is the action's usual one.
	why string
}

// consequence gives what is done about an answer: what the action leads to by the
// settings, or more if the score is beyond one of the settings' own.
func (r *Rspamd) consequence(found answer) consequence {
	c := r.byAction(found)
	switch {
	case r.RejectScore > 0 && found.score >= r.RejectScore:
		if c.action != mail.ActionReject {
			return consequence{mail.ActionReject, true, "rejected by reject_score, " + number(r.RejectScore)}
		}
	case r.QuarantineScore > 0 && found.score >= r.QuarantineScore:
		if c.action < mail.ActionQuarantine {
			return consequence{mail.ActionQuarantine, true, "quarantined by quarantine_score, " + number(r.QuarantineScore)}
		}
	}
	return c
}

func (r *Rspamd) byAction(found answer) consequence {
	switch found.action {
	case actionNone:
		return consequence{}
	case actionGreylist:
		if r.Greylist == "defer" {
			return consequence{action: mail.ActionDefer}
		}
		return consequence{why: "accepted by greylist"}
	case actionAddHeader, actionSubject:
		if r.AddHeader == "quarantine" {
			return consequence{mail.ActionQuarantine, true, "quarantined by add_header"}
		}
		return consequence{spam: true}
	case actionSoftReject:
		return consequence{action: mail.ActionDefer}
	case actionQuarantine:
		return consequence{action: mail.ActionQuarantine, spam: true}
	case actionDiscard:
		return consequence{action: mail.ActionDiscard, spam: true}
	case actionReject:
		return r.rejected(found)
	default:
		return consequence{why: "an action that means nothing here, accepted"}
	}
}

// rejected is what becomes of a message that rspamd would reject.
func (r *Rspamd) rejected(found answer) consequence {
	switch {
	case r.Reject == "quarantine":
		return consequence{mail.ActionQuarantine, true, "quarantined by reject"}
	case r.Reject == "tag":
		return consequence{spam: true, why: "tagged by reject"}
	case found.instead == actionQuarantine:
		return consequence{mail.ActionQuarantine, true, "quarantined, as a module of rspamd's wants"}
	case found.instead == actionDiscard:
		return consequence{mail.ActionDiscard, true, "discarded, as a module of rspamd's wants"}
	default:
		return consequence{action: mail.ActionReject, spam: true}
	}
}

// judge marks the message that rspamd was sent with the header section head, and
// gives the verdict.
func (r *Rspamd) judge(tx *mail.Transaction, found answer, head []byte, took time.Duration) mail.Verdict {
	c := r.consequence(found)
	if !tx.Monitored {
		found.changes.apply(tx, head)
		if r.RewriteSubject && found.action == actionSubject && found.subject != "" {
			rewriteSubject(tx, found.subject)
		}
	}
	mark(tx, found, c.spam)
	if found.action == actionGreylist {
		tx.AddTag("rspamd=greylist")
	}
	if r.Weight > 0 {
		tx.SetScore(r.name, r.Weight*found.score)
	}
	reason := explain(found, c.why, took)
	switch c.action {
	case mail.ActionQuarantine:
		return mail.Quarantine(reason)
	case mail.ActionDiscard:
		return mail.Discard(reason)
	case mail.ActionDefer:
		return mail.Defer(mail.NewReply(451, 7, 1, replyText(found.message, "Try again later")), reason)
	case mail.ActionReject:
		text := "Message looks like spam"
		if found.action == actionReject {
			text = replyText(found.message, text)
		}
		return mail.Reject(mail.NewReply(550, 7, 1, text), reason)
	case mail.ActionContinue, mail.ActionAccept:
	}
	return mail.Continue(reason)
}

// replyText makes what rspamd says fit for a reply: one line of printable US-ASCII.
func replyText(text, usual string) string {
	text = strings.Map(func(c rune) rune {
		switch {
		case c == '\r' || c == '\n' || c == '\t':
			return ' '
		case c < ' ' || c > '~':
			return '?'
		}
		return c
	}, text)
	text = strings.TrimSpace(text[:min(len(text), maxText)])
	if text == "" {
		return usual
	}
	return text
}
