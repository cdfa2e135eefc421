// Package headers is handler.headers: it adds header fields to a message, removes
// some and requires others.
package headers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(&Headers{}) }

// Headers adds, removes and requires header fields. What is removed goes first: a
// field that is in both lists replaces those of its name.
type Headers struct {
	// Remove lists the names of fields that are taken out.
	Remove []string `config:"remove" example:"X-Spam-Flag"`
	// Add has fields that are put on top, by their names. The values are printable
	// US-ASCII of at most 900 bytes.
	Add map[string]string `config:"add"`
	// Require lists the names of fields that a message must have as it comes.
	Require []string `config:"require" example:"Date"`
	// Missing is what happens to a message without one of them: accept lets it pass,
	// tag gives it the tag headers=missing, quarantine keeps it out of the inbox, and
	// reject refuses it with 550 5.6.0.
	Missing string `config:"missing" default:"reject" values:"accept,tag,quarantine,reject"`

	added []string // names in order
}

// Module describes the handler.
func (*Headers) Module() core.Info {
	return core.Info{
		ID:     "handler.headers",
		Edits:  true,
		Stages: mail.AtData,
		New:    func() core.Module { return new(Headers) },
	}
}

// Provision puts the fields into an order, from the last on the top.
func (h *Headers) Provision(*core.Context) error {
	h.added = slices.Sorted(maps.Keys(h.Add))
	slices.Reverse(h.added)
	return nil
}

// Bounds of settings, in bytes.
const (
	maxName  = 64
	maxValue = 900
)

// Validate checks names and values.
func (h *Headers) Validate() core.Problems {
	var problems core.Problems
	if len(h.Remove)+len(h.Add)+len(h.Require) == 0 {
		problems.Warnf("", "headers has nothing to do: write add, remove or require")
	}
	check := func(attribute, name string) bool {
		if !isFieldName(name) {
			problems.Errorf(attribute, "%q is not the name of a header field: write one of letters, digits, - and _, of at most %d bytes", name, maxName)
			return false
		}
		return true
	}
	for i, name := range h.Remove {
		attribute := fmt.Sprintf("remove[%d]", i)
		if check(attribute, name) && strings.EqualFold(name, "Received") {
			problems.Errorf(attribute, "fields Received stay: they show the way of a message, and that it runs in circles (RFC 5321 section 4.4)")
		}
	}
	for i, name := range h.Require {
		check(fmt.Sprintf("require[%d]", i), name)
	}
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(h.Add)) {
		lower := strings.ToLower(name)
		switch {
		case !check("add", name):
		case isReserved(lower):
			problems.Errorf("add", "%s is written by the server itself, so that readers can trust it", name)
		case seen[lower]:
			problems.Errorf("add", "%s stands twice, in other letters", name)
		case !isLine(h.Add[name]):
			problems.Errorf("add", "the value of %s is not one line of printable US-ASCII of at most %d bytes", name, maxValue)
		}
		seen[lower] = true
	}
	return problems
}

// isReserved tells the names, in lower case, of fields that say what servers have
// found, or how a message came.
func isReserved(name string) bool {
	switch name {
	case "received", "return-path", "delivered-to", "authentication-results", "received-spf", "dkim-signature":
		return true
	default:
		return strings.HasPrefix(name, "arc-") || strings.HasPrefix(name, "x-mox-like-")
	}
}

func isFieldName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

func isLine(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= maxValue
}

// Handle changes the message, or refuses it.
func (h *Headers) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	var missing []string
	for _, name := range h.Require {
		if tx.Message.Header.Count(name) == 0 {
			missing = append(missing, name)
		}
	}
	removed := 0
	for _, name := range h.Remove {
		removed += tx.Message.Header.Count(name)
		tx.RemoveHeaderFields(name)
	}
	for _, name := range h.added {
		tx.AddHeaderField(name, h.Add[name])
	}
	reason := fmt.Sprintf("%d fields removed, %d added", removed, len(h.added))
	if len(missing) == 0 {
		return mail.Continue(reason), nil
	}
	names := strings.Join(missing, ", ")
	reason = mail.Printable("the message has no "+names+"; "+reason, maxReason)
	switch h.Missing {
	case "tag":
		tx.AddTag("headers=missing")
	case "quarantine":
		return mail.Quarantine(reason), nil
	case "reject":
		text := mail.Printable("The message lacks a header field that it must have: "+names, maxReply)
		return mail.Reject(mail.NewReply(550, 6, 0, text), reason), nil
	}
	return mail.Continue(reason), nil
}

// Bounds of what goes into a trace and into a reply, in bytes.
const (
	maxReason = 480
	maxReply  = 390
)

var (
	_ core.Provisioner = (*Headers)(nil)
	_ core.Validator   = (*Headers)(nil)
	_ core.Handler     = (*Headers)(nil)
)
