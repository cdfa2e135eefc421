package mail

import (
	"fmt"
	"strings"
)

// maxReplyText keeps a reply line within the 512 octets of RFC 5321 section
// 4.5.3.1.5.
const maxReplyText = 400

// Refusal makes the reply of an outcome fit for a reply line: one line of US-ASCII,
// with the identifier by which the operator finds the decision, if it is not "".
func (o Outcome) Refusal(id string) Reply {
	r := o.Reply
	r.Text = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, r.Text)
	if len(r.Text) > maxReplyText {
		r.Text = r.Text[:maxReplyText]
	}
	if id != "" {
		r.Text = fmt.Sprintf("%s (id %s)", r.Text, id)
	}
	return r
}

// Kept is the reply to a message that was accepted.
func Kept(id string) Reply { return NewReply(250, 0, 0, "OK: kept as "+id) }
