package chain

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/mail"
)

// addRecipients asks the targets for the recipients that a handler has added at the
// data stage. One that none takes, or that one refuses, is not delivered to, and the
// trace says so: it is not a reason to refuse the message to the others. If there are
// no others the message is deferred, since nobody would have it. It is deferred, too,
// if a target cannot tell now: a recipient that stands in the place of another would
// lose his mail for a moment's fault.
func (c *Chain) addRecipients(ctx context.Context, by *Step, tx *mail.Transaction, outcome *mail.Outcome) {
	added := tx.AddedRecipients()
	if len(added) == 0 {
		return
	}
	defer func(before *mail.Recipient) { tx.Stage, tx.Recipient = mail.StageData, before }(tx.Recipient)
	for _, address := range added {
		r := &mail.Recipient{Address: address}
		before := tx.Judgement()
		tx.Stage, tx.Recipient = mail.StageRcpt, r
		asked := c.askTargets(ctx, tx)
		if r.Target != "" {
			tx.Envelope.Recipients = append(tx.Envelope.Recipients, r)
			continue
		}
		tx.SetJudgement(before)
		if asked.Action == mail.ActionDefer {
			asked.Stage = mail.StageData
			asked.Reason = fmt.Sprintf("%s, which %s has added: %s", address, by.Name, asked.Reason)
			*outcome = asked
			return
		}
		c.sayLost(by, tx, asked)
	}
	if len(tx.Envelope.Recipients) == 0 && !tx.Discarded() {
		reason := fmt.Sprintf("%s has put other recipients in the place of all, and no target takes one of them", by.Name)
		*outcome = mail.Outcome{Stage: mail.StageData, Handler: by.Name, Verdict: mail.Defer(replyFor(mail.StageData, mail.ActionDefer), reason)}
	}
}

// sayLost says in the trace and the log that the message does not go to tx.Recipient,
// which by has added: asked is what the targets have said.
func (c *Chain) sayLost(by *Step, tx *mail.Transaction, asked mail.Outcome) {
	who := "which no target takes"
	if asked.Refused() {
		who = "which " + asked.Handler + " refuses"
	}
	c.record(by, tx, mail.Verdict{Reason: "it has added this recipient, " + who + ": the message does not go there"}, "", 0)
	level := zap.WarnLevel
	if tx.Trial {
		level = zap.DebugLevel
	}
	c.log.Log(level, "no target takes a recipient that a handler has added", zap.String(logkey.Handler, by.Name), zap.String(logkey.Message, tx.ID),
		zap.Stringer(logkey.Recipient, tx.Recipient.Address), zap.String(logkey.Reason, asked.Reason))
}

// askTargets asks the targets for tx.Recipient as Run does, and none of the other
// handlers.
func (c *Chain) askTargets(ctx context.Context, tx *mail.Transaction) mail.Outcome {
	outcome := mail.Outcome{Stage: mail.StageRcpt}
	for _, s := range c.stages[mail.StageRcpt] {
		if outcome.Action != mail.ActionContinue {
			break
		}
		if s.Target {
			c.apply(&outcome, s, tx, c.call(ctx, s, tx))
		}
	}
	return outcome
}
