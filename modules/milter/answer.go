package milter

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	wire "github.com/emersion/go-milter"

	"github.com/mox-like/mox-like/core/mail"
)

// answer is what a milter decides at a step.
type answer struct {
	action wire.ActionCode
	reply  mail.Reply // of REPLYCODE
	step   string
	what   string // for the operator, "" for the usual
}

// goOn is the answer where none is awaited.
func goOn(step string) answer { return answer{action: wire.ActContinue, step: step} }

// final tells whether the milter has decided, so that it is told no more.
func (a answer) final() bool { return a.action != wire.ActContinue && a.action != wire.ActSkip }

func (a answer) refuses() bool {
	return a.action == wire.ActReject || a.action == wire.ActTempFail || a.action == wire.ActReplyCode
}

func (a answer) discards() bool { return a.action == wire.ActDiscard }

// answer awaits the milter's decision at a step.
func (c *client) answer(step string) (answer, error) {
	p, err := c.receive(step)
	if err != nil {
		return answer{}, err
	}
	return c.decision(step, p)
}

// decision reads a packet that must be one.
func (c *client) decision(step string, p packet) (answer, error) {
	a := answer{action: wire.ActionCode(p.code), step: step}
	data, err := c.payload(step, p, maxReply)
	if err != nil {
		return a, err
	}
	switch a.action {
	case wire.ActAccept, wire.ActContinue, wire.ActDiscard, wire.ActReject, wire.ActTempFail:
		return a, nil
	case wire.ActSkip:
		if c.protocol&wire.OptSkip == 0 || step != stepBody.name {
			return a, fmt.Errorf("%s: it answers with %s, which it may not here", step, named(p.code))
		}
		return a, nil
	case wire.ActReplyCode:
		if a.reply, err = parseReply(data); err != nil {
			return a, fmt.Errorf("%s: %s: %w", step, named(p.code), err)
		}
		return a, nil
	case answerShutdown, answerConnFail:
		return a, fmt.Errorf("%s: it answers with %s: it wants the connection to be closed", step, named(p.code))
	default:
		return a, fmt.Errorf("%s: it answers with %s, which is no decision", step, named(p.code))
	}
}

// maxText bounds the text of a reply, in bytes.
const maxText = 300

// parseReply reads the reply of REPLYCODE: "550 5.7.1 text", of which there may be
// several lines.
func parseReply(data []byte) (mail.Reply, error) {
	text, _, _ := bytes.Cut(data, []byte{0})
	if len(text) < 3 {
		return mail.Reply{}, fmt.Errorf("%q is no reply", mail.Printable(string(text), maxShown))
	}
	code, err := strconv.ParseUint(string(text[:3]), 10, 16)
	if err != nil || code/100 != 4 && code/100 != 5 || code%100 > 59 {
		return mail.Reply{}, fmt.Errorf("%q does not begin with a code of 4xx or 5xx", mail.Printable(string(text), maxShown))
	}
	reply := mail.Reply{Code: int(code), Enhanced: mail.EnhancedCode{int(code / 100), 7, 1}}
	var words []string
	for i, line := range strings.Split(string(text), "\n") {
		prefix := string(text[:3])
		rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\r"), prefix)
		if ok && rest != "" && (rest[0] == ' ' || rest[0] == '-') {
			rest = rest[1:]
		}
		if enhanced, after, ok := cutEnhanced(rest, reply.Code/100); ok {
			if i == 0 {
				reply.Enhanced = enhanced
			}
			rest = after
		}
		// libmilter's callers double the sign, since Sendmail formats the text.
		words = append(words, strings.Fields(strings.ReplaceAll(rest, "%%", "%"))...)
	}
	reply.Text = printable(strings.Join(words, " "), maxText)
	if reply.Text == "" {
		reply.Text = "Refused by a mail filter"
	}
	return reply, nil
}

// cutEnhanced takes a status code of a class (RFC 3463) off the beginning of a text.
func cutEnhanced(text string, class int) (code mail.EnhancedCode, rest string, ok bool) {
	word, rest, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != len(code) {
		return code, text, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || n > 999 || part != strconv.FormatUint(n, 10) {
			return code, text, false
		}
		code[i] = int(n)
	}
	return code, rest, code[0] == class
}

// printable gives a text in printable US-ASCII: what goes to a client.
func printable(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return strings.TrimSpace(text[:min(len(text), limit)])
}

// verdict is what the answer means for the client.
func (a answer) verdict() mail.Verdict {
	what := a.what
	if what == "" {
		what = a.words()
	}
	switch a.action {
	case wire.ActReject:
		return mail.Reject(mail.Reply{}, what)
	case wire.ActTempFail:
		return mail.Defer(mail.Reply{}, what)
	case wire.ActReplyCode:
		if a.reply.Code/100 == 4 {
			return mail.Defer(a.reply, what)
		}
		return mail.Reject(a.reply, what)
	case wire.ActDiscard:
		return mail.Discard(what)
	default:
		return mail.Continue(what)
	}
}

// words says what the milter has decided, and when.
func (a answer) words() string {
	switch a.action {
	case wire.ActReject:
		return "it refuses at " + a.step
	case wire.ActTempFail:
		return "it refuses for now at " + a.step
	case wire.ActReplyCode:
		return "it refuses at " + a.step + ": " + a.reply.String()
	case wire.ActDiscard:
		return "it discards at " + a.step
	case wire.ActAccept:
		return "it accepts at " + a.step
	default:
		return "it has no objection"
	}
}
