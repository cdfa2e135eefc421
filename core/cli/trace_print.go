package cli

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// Widths of columns, in characters.
const (
	maxHandlerWidth = 24
	maxReasonWidth  = 96
)

// Colours of a terminal (ECMA-48 SGR).
const (
	green  = "32"
	yellow = "33"
	red    = "31"
	dim    = "2"
	bold   = "1"
)

// tracePrinter prints records for people: a line of what it is about, and one
// for each thing that a handler said. What comes from strangers is made harmless.
type tracePrinter struct {
	w     io.Writer
	color bool
	// zone is the time zone; nil means the machine's.
	zone *time.Location
	// explain prints the settings that were in force.
	explain bool
	// begun tells that there is a record above, to keep apart from.
	begun bool
}

// print writes a record in one piece.
func (p *tracePrinter) print(r *trace.Record) error {
	var b bytes.Buffer
	if p.begun {
		b.WriteByte('\n')
	}
	p.begun = true
	p.head(&b, r)
	var handler, verdict, reason int
	lines := make([]traceLine, 0, len(r.Entries))
	several, explained := severalRecipients(r), r.Outcome.Reason == ""
	for _, e := range r.Entries {
		l := newTraceLine(e, several)
		handler = max(handler, min(utf8.RuneCountInString(l.handler), maxHandlerWidth))
		verdict = max(verdict, len(l.verdict))
		reason = max(reason, min(utf8.RuneCountInString(l.reason), maxReasonWidth))
		explained = explained || e.Reason == r.Outcome.Reason
		lines = append(lines, l)
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "  %-7s  %-*s  %s  %s  %-*s  %s\n", l.stage, handler, l.handler,
			p.paint(l.color, fmt.Sprintf("%-*s", verdict, l.verdict)),
			p.paint(dim, fmt.Sprintf("%7s", l.duration)), reason, l.reason, p.paint(dim, l.position))
	}
	if !explained {
		fmt.Fprintf(&b, "  %-7s  %s\n", "reason", harmless(r.Outcome.Reason))
	}
	if reply := replyText(r); reply != "" {
		fmt.Fprintf(&b, "  %-7s  %s\n", "reply", harmless(reply))
	}
	if p.explain {
		p.settings(&b, r)
	}
	_, err := p.w.Write(b.Bytes())
	return err
}

func (p *tracePrinter) timeZone() *time.Location {
	if p.zone == nil {
		return time.Local
	}
	return p.zone
}

// head writes the line that says what the record is about.
func (p *tracePrinter) head(b *bytes.Buffer, r *trace.Record) {
	fmt.Fprintf(b, "%s  %-7s  %s  ", r.Time.In(p.timeZone()).Format(time.DateTime), r.Kind, p.paint(bold, harmless(r.ID)))
	if r.Kind == trace.KindMessage {
		fmt.Fprintf(b, "<%s> to %s", harmless(r.ReversePath), recipientList(r))
	} else {
		fmt.Fprintf(b, "%s %s", harmless(r.Protocol), harmless(r.Listener))
	}
	if r.User != "" {
		fmt.Fprintf(b, "  user %s", harmless(r.User))
	}
	from := harmless(r.RemoteIP)
	if from == "" {
		from = "a unix socket"
	}
	action, handler := r.Decision()
	outcome := action
	if handler != "" {
		outcome += " by " + harmless(handler)
	}
	if r.Kind == trace.KindMessage && action == mail.ActionQuarantine.String() {
		outcome += ", kept out of the inbox"
	}
	fmt.Fprintf(b, "  from %s  %s\n", from, p.paint(actionColor(action), outcome))
}

// replyText gives what the client was told: of an SMTP reply, IMAP sends the text
// alone.
func replyText(r *trace.Record) string {
	reply := r.Outcome.Reply
	if parts := strings.SplitN(reply, " ", 3); r.Protocol == string(mail.ProtocolIMAP) && len(parts) == 3 {
		return parts[2]
	}
	return reply
}

// maxShownRecipients bounds how many are named in a line.
const maxShownRecipients = 3

// recipientList names the recipients: those that were accepted, then those that
// were not.
func recipientList(r *trace.Record) string {
	var names []string
	for _, recipient := range r.Recipients {
		names = append(names, "<"+harmless(recipient)+">")
	}
	for _, recipient := range r.RefusedRecipients() {
		names = append(names, "<"+harmless(recipient)+"> (refused)")
	}
	if len(names) == 0 {
		return "no recipient"
	}
	text := strings.Join(names[:min(len(names), maxShownRecipients)], ", ")
	if more := len(names) - maxShownRecipients; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// traceLine is an entry ready to be printed.
type traceLine struct {
	stage, handler, verdict, reason, duration, position string
	color                                               string
}

func newTraceLine(e mail.Entry, nameRecipient bool) traceLine {
	l := traceLine{
		stage:    e.Stage.String(),
		handler:  harmless(e.Handler),
		reason:   harmless(e.Reason),
		duration: shortDuration(e.Duration),
		position: harmless(e.Position),
	}
	l.verdict, l.color = verdictText(e)
	if nameRecipient && e.Recipient != "" {
		l.reason = strings.TrimSuffix("<"+harmless(e.Recipient)+">: "+l.reason, ": ")
	}
	return l
}

// verdictText says what a handler's word was, and what the chain made of it.
func verdictText(e mail.Entry) (text, color string) {
	action := e.Action.String()
	switch e.Note {
	case "":
		return action, actionColor(action)
	case chain.NoteSkipped:
		return "skipped", dim
	case chain.NoteMonitor:
		return action + " (monitored)", yellow
	default:
		if e.Action == mail.ActionContinue {
			return e.Note, yellow
		}
		return action + " (" + e.Note + ")", red
	}
}

func actionColor(action string) string {
	switch action {
	case mail.ActionContinue.String(), mail.ActionAccept.String():
		return green
	case mail.ActionReject.String():
		return red
	default:
		return yellow
	}
}

// severalRecipients tells whether a recipient must be named beside what was said
// about it, since the record has not just that one.
func severalRecipients(r *trace.Record) bool {
	return len(r.Recipients)+len(r.RefusedRecipients()) > 1
}

// shortDuration gives three significant digits at most.
func shortDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + "µs"
	case d < time.Second:
		return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', decimals(d, time.Millisecond), 64) + "ms"
	default:
		return strconv.FormatFloat(d.Seconds(), 'f', decimals(d, time.Second), 64) + "s"
	}
}

func decimals(d, unit time.Duration) int {
	switch {
	case d < 10*unit:
		return 2
	case d < 100*unit:
		return 1
	default:
		return 0
	}
}

// paint colours a text where colours are wanted.
func (p *tracePrinter) paint(color, text string) string {
	if !p.color || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// harmless makes a text from a stranger fit for a terminal: what is not
// printable, such as the control characters that move the cursor or turn the
// direction of writing, is escaped as in Go.
func harmless(text string) string {
	printable := true
	for _, r := range text {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			printable = false
			break
		}
	}
	if printable {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}
