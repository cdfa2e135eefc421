package dnsbl

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// The lengths of the text of a list in a reason and in a reply, whose line must
// not exceed 512 octets (RFC 5321 section 4.5.3.1.5).
const (
	maxReasonText = 200
	maxReplyText  = 120
)

// finding is what one list says about one subject.
type finding struct {
	list    *list
	subject string
	query   string       // the name that is looked up
	codes   []netip.Addr // those that count; none if it is not listed
	weight  float64
	text    string
	err     error
}

// outage gives an error if lists were asked and none gave an answer that can be
// used, so that on_error holds.
func outage(findings []*finding) error {
	var first *finding
	var others []string
	for _, f := range findings {
		switch {
		case f.err == nil:
			return nil
		case first == nil:
			first = f
		default:
			others = append(others, fmt.Sprintf("; %s: %v", f.list.Zone, f.err))
		}
	}
	if first == nil {
		return nil
	}
	return fmt.Errorf("ask list %s: %w%s", first.list.Zone, first.err, strings.Join(others, ""))
}

// describe says what was found, for the operator.
func describe(findings []*finding, sum, threshold float64) string {
	var parts, passed []string
	free := 0
	for _, f := range findings {
		switch {
		case f.err != nil:
			passed = append(passed, fmt.Sprintf("%s (%v)", f.list.Zone, f.err))
		case len(f.codes) > 0:
			parts = append(parts, f.String())
		default:
			free++
		}
	}
	switch {
	case len(parts) > 0:
		parts = append(parts, fmt.Sprintf("sum %g, threshold %g", sum, threshold))
	case free == 1:
		parts = append(parts, "not in the one list that answered")
	case free > 0:
		parts = append(parts, fmt.Sprintf("in none of %d lists", free))
	case len(passed) == 0:
		return "nothing to ask about"
	}
	if len(passed) > 0 {
		parts = append(parts, "passed over: "+strings.Join(passed, ", "))
	}
	return strings.Join(parts, "; ")
}

// String gives a listing, such as "192.0.2.1 is listed by ZONE (127.0.0.2),
// weight 1: TEXT".
func (f *finding) String() string {
	word, sign := "listed", ""
	if f.list.Kind == kindAllow {
		word, sign = "allowed", "-"
	}
	s := fmt.Sprintf("%s is %s by %s (%s), weight %s%g", mail.Printable(f.subject, 255), word, f.list.Zone, f.answers(), sign, f.weight)
	if f.text != "" {
		s += ": " + mail.Printable(f.text, maxReasonText)
	}
	return s
}

// answers lists the codes, not all of many.
func (f *finding) answers() string {
	const most = 5
	var list []string
	for _, code := range f.codes[:min(most, len(f.codes))] {
		list = append(list, code.String())
	}
	if len(f.codes) > most {
		list = append(list, "…")
	}
	return strings.Join(list, " ")
}

// reply is what the client is told: who has listed what, and where that can be
// changed, if the list says it.
func (f *finding) reply(stage mail.Stage) mail.Reply {
	what := "Domain "
	if f.list.Kind == kindIP {
		what = "Client host "
	}
	text := what + ascii(f.subject, 255-len(what)) + " is listed by " + f.list.Zone
	if f.text != "" {
		text += ": " + ascii(f.text, maxReplyText)
	}
	if stage == mail.StageConnect {
		return mail.NewReply(554, 7, 1, text) // RFC 5321 section 4.2.2
	}
	return mail.NewReply(550, 7, 1, text)
}

// ascii makes a text fit for a reply to a client that may not know UTF-8.
func ascii(text string, limit int) string {
	out := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return out[:min(limit, len(out))]
}

// authResult is what a hit in an allow list is called (RFC 8904 section 2).
func (f *finding) authResult() mail.AuthResult {
	return mail.AuthResult{Method: "dnswl", Result: "pass", Properties: []mail.Property{
		{Type: "dns", Name: "zone", Value: f.list.Zone},
		{Type: "policy", Name: "ip", Value: f.codes[0].String()},
	}}
}

// errResting is why a zone is passed over that keeps failing.
var errResting = errors.New("resting after repeated failures")
