package trace

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of a record. Much of it is what a client says, who may not even have
// logged in, and it is kept for weeks.
const (
	maxText       = 512  // bytes
	maxReason     = 2048 // bytes of what a handler says: a filter's rules with their scores take long lines
	maxRecipients = 128
	firstEntries  = 32
	lastEntries   = 32
)

// clipped gives the record within its bounds: itself, if it is, or a copy. Of too
// many entries those in the middle go, since the last ones tell how it ended.
func (r *Record) clipped() *Record {
	if !r.exceeds() {
		return r
	}
	c := *r
	for _, s := range c.texts() {
		*s = clip(*s, maxText)
	}
	c.Outcome.Reason = clip(r.Outcome.Reason, maxReason)
	c.Recipients = slices.Clone(r.Recipients[:min(len(r.Recipients), maxRecipients)])
	for i, s := range c.Recipients {
		c.Recipients[i] = clip(s, maxText)
	}
	if n := len(r.Recipients) - maxRecipients; n > 0 {
		c.Recipients = append(c.Recipients, more(n))
	}
	c.Entries = slices.Clone(r.Entries)
	if n := len(r.Entries) - firstEntries - lastEntries; n > 0 {
		gap := mail.Entry{Stage: r.Entries[firstEntries].Stage, Reason: more(n)}
		c.Entries = slices.Concat(r.Entries[:firstEntries], []mail.Entry{gap}, r.Entries[firstEntries+n:])
	}
	for i := range c.Entries {
		reason := clip(c.Entries[i].Reason, maxReason)
		for _, s := range entryTexts(&c.Entries[i]) {
			*s = clip(*s, maxText)
		}
		c.Entries[i].Reason = reason
	}
	return &c
}

// exceeds tells whether anything is beyond its bound.
func (r *Record) exceeds() bool {
	long := func(s string) bool { return len(s) > maxText }
	if len(r.Recipients) > maxRecipients || len(r.Entries) > firstEntries+lastEntries || slices.ContainsFunc(r.Recipients, long) {
		return true
	}
	for _, s := range r.texts() {
		if long(*s) && (s != &r.Outcome.Reason || len(*s) > maxReason) {
			return true
		}
	}
	for i := range r.Entries {
		e := &r.Entries[i]
		for _, s := range entryTexts(e) {
			if long(*s) && (s != &e.Reason || len(*s) > maxReason) {
				return true
			}
		}
	}
	return false
}

func more(n int) string { return fmt.Sprintf("… and %d more", n) }

// clip cuts a text that is too long between two characters.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "…"
	end := limit - len(mark)
	for range utf8.UTFMax - 1 {
		if utf8.RuneStart(s[end]) {
			break
		}
		end--
	}
	return s[:end] + mark
}
