package coretest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of what a handler says.
const (
	// maxReason is what a trace keeps of a reason.
	maxReason = 512
	// maxReplyText leaves room in the 512 bytes of a reply line (RFC 5321 section
	// 4.5.3.1.5) for the codes and the session's ID.
	maxReplyText = 400
)

// faultsOf tells what is wrong with a verdict.
func faultsOf(stage mail.Stage, v mail.Verdict) []string {
	var faults []string
	if v.Action != mail.ActionContinue && v.Reason == "" {
		faults = append(faults, "it gives no reason")
	}
	if fault := faultOfText(v.Reason); fault != "" {
		faults = append(faults, "the reason "+fault)
	}
	if stage < mail.StageMail && (v.Action == mail.ActionQuarantine || v.Action == mail.ActionDiscard) {
		faults = append(faults, "there is no message yet")
	}
	if v.Reply != (mail.Reply{}) {
		faults = append(faults, faultsOfReply(v)...)
	}
	return faults
}

func faultsOfReply(v mail.Verdict) []string {
	var class int
	switch v.Action {
	case mail.ActionDefer:
		class = 4
	case mail.ActionReject:
		class = 5
	default:
		return []string{fmt.Sprintf("the reply %q is for defer and reject", v.Reply)}
	}
	var faults []string
	if v.Reply.Code/100 != class || v.Reply.Enhanced[0] != class {
		faults = append(faults, fmt.Sprintf("the codes of the reply %q are not of class %d", v.Reply, class))
	}
	if text := v.Reply.Text; text == "" || text != mail.Printable(text, maxReplyText) {
		faults = append(faults, fmt.Sprintf("the text of the reply %q is empty, longer than %d bytes or not printable", v.Reply, maxReplyText))
	}
	return faults
}

// faultOfText tells what is wrong with a text for the operator, "" if nothing.
func faultOfText(text string) string {
	if text == mail.Printable(text, maxReason) {
		return ""
	}
	return fmt.Sprintf("is longer than %d bytes or not printable: %.*q", maxReason, maxReason, text)
}

// look is what a handler must leave alone in a transaction.
type look struct {
	id          string
	stage       mail.Stage
	session     mail.Session
	reversePath mail.Address
	recipients  []mail.Recipient
	recipient   mail.Recipient
	credentials mail.Credentials
	message     *mail.Message
	entries     int
	user        string
}

func lookAt(tx *mail.Transaction) look {
	l := look{
		id: tx.ID, stage: tx.Stage, session: *tx.Session, reversePath: tx.Envelope.ReversePath,
		message: tx.Message, entries: len(tx.Entries), user: tx.Authenticated(),
	}
	for _, r := range tx.Envelope.Recipients {
		l.recipients = append(l.recipients, *r)
	}
	if tx.Recipient != nil {
		l.recipient = *tx.Recipient
	}
	if tx.Credentials != nil {
		l.credentials = *tx.Credentials
	}
	return l
}

// changes names what a handler has changed without the right to.
func (l look) changes(tx *mail.Transaction, info core.Info) []string {
	now := lookAt(tx)
	var changed []string
	note := func(what string, is bool) {
		if is {
			changed = append(changed, what)
		}
	}
	note("the ID", l.id != now.id)
	note("the stage", l.stage != now.stage)
	note("the session", l.session != now.session)
	note("the reverse-path", l.reversePath != now.reversePath)
	note("the message", l.message != now.message)
	note("the trace", l.entries != now.entries)
	note("the recipient's address", l.recipient.Address != now.recipient.Address)
	note("the recipients' addresses", !slices.EqualFunc(l.recipients, now.recipients, func(a, b mail.Recipient) bool { return a.Address == b.Address }))
	note("who has the recipients in charge", !info.Target && !info.Holds && (l.recipient.Target != now.recipient.Target ||
		!slices.EqualFunc(l.recipients, now.recipients, func(a, b mail.Recipient) bool { return a.Target == b.Target && a.Delivered == b.Delivered })))
	note("who has logged in", !info.Authenticates && l.user != now.user)
	note("the credentials", l.credentials.Username != now.credentials.Username || l.credentials.Mechanism != now.credentials.Mechanism ||
		!info.Authenticates && l.credentials != now.credentials)
	return changed
}

// faults tells what is wrong with the diagnostics of a bad block.
func (bad Bad) faults(source []byte, ds config.Diagnostics) []string {
	file, parsed := config.Parse("test.hcl", source, config.Options{})
	if parsed.HasErrors() {
		return []string{fmt.Sprintf("the text cannot be parsed: %v", parsed.Err())}
	}
	block := file.Root.Blocks("listener")[0].Blocks("chain")[0].Blocks()[0]
	other := file.Root.Blocks("listener")[1].Body.Range()
	want := placeOf(block, bad.Attribute)
	var faults []string
	found := false
	for _, d := range ds {
		if d.Severity != config.Error || d.Range.Start.Byte >= other.Start.Byte {
			continue
		}
		if d.Summary == "" || strings.HasSuffix(d.Summary, ".") || strings.ContainsAny(d.Summary, "\r\n") {
			faults = append(faults, fmt.Sprintf("the summary %q is not one line without a full stop", d.Summary))
		}
		if d.Range.Start.Line == 0 {
			faults = append(faults, fmt.Sprintf("%q has no place", d.Summary))
		}
		if within(d.Range, want) && (bad.Code == "" || bad.Code == d.Code) {
			found = true
		}
	}
	if !found {
		faults = append(faults, fmt.Sprintf("no error stands at %q, %s, with the code %q:\n%v", bad.Attribute, want, bad.Code, ds.Err()))
	}
	return faults
}

// placeOf gives the range of a setting with its name, or of the header of the
// innermost block on the way to it.
func placeOf(block *config.Block, path string) hcl.Range {
	for path != "" {
		var step string
		step, path, _ = strings.Cut(path, ".")
		name, number, _ := strings.Cut(strings.TrimSuffix(step, "]"), "[")
		if a, ok := block.Attribute(name); ok {
			return a.SrcRange
		}
		index, _ := strconv.Atoi(number)
		nested := block.Blocks(name)
		if index >= len(nested) {
			break
		}
		block = nested[index]
	}
	return block.DefRange
}

func within(inner, outer hcl.Range) bool {
	return inner.Filename == outer.Filename && inner.Start.Byte >= outer.Start.Byte && inner.End.Byte <= outer.End.Byte
}
