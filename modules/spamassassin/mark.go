package spamassassin

import (
	"fmt"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// The header fields that tell what was found; the names are SpamAssassin's own.
const (
	fieldFlag   = "X-Spam-Flag"
	fieldScore  = "X-Spam-Score"
	fieldStatus = "X-Spam-Status"
	fieldPrefix = "X-Spam-"
)

// maxForged bounds the different names of X-Spam fields that are taken out of a
// message. Real ones have less than ten; each one is looked for in all fields.
const maxForged = 50

// removeMarks takes out of the message what claims to be from a spam filter, and
// gives the number of different names.
func removeMarks(tx *mail.Transaction) int {
	seen := make(map[string]bool)
	for _, f := range tx.Message.Header.Fields {
		if len(f.Name) >= len(fieldPrefix) && strings.EqualFold(f.Name[:len(fieldPrefix)], fieldPrefix) || strings.EqualFold(f.Name, "X-Spam") {
			if seen[strings.ToLower(f.Name)] = true; len(seen) > maxForged {
				return len(seen)
			}
		}
	}
	for name := range seen {
		tx.RemoveHeaderFields(name)
	}
	// What another handler of this kind has added goes too.
	for _, name := range [...]string{fieldFlag, fieldScore, fieldStatus} {
		tx.RemoveHeaderFields(name)
	}
	return len(seen)
}

// mark says in the message what was found.
func (s *SpamAssassin) mark(tx *mail.Transaction, found report, spam bool) {
	flag, word := "NO", "No"
	if spam {
		flag, word = "YES", "Yes"
		tx.AddTag("spamassassin=spam")
	}
	required := s.Tag
	if required == 0 {
		required = found.required
	}
	tx.AddHeaderField(fieldStatus, fmt.Sprintf("%s, score=%.1f required=%.1f%s", word, found.score, required, tests(found.rules)))
	tx.AddHeaderField(fieldScore, fmt.Sprintf("%.1f", found.score))
	tx.AddHeaderField(fieldFlag, flag)
}

// Bounds of the field with the rules.
const (
	maxTests     = 100
	maxTestsLine = 70
)

// tests gives the rules with their scores for X-Spam-Status, folded.
func tests(rules []rule) string {
	if len(rules) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\r\n\ttests=")
	column := len("tests=")
	for i, r := range rules[:min(len(rules), maxTests)] {
		text := fmt.Sprintf("%s=%s", r.name, number(r.score))
		if i > 0 {
			b.WriteByte(',')
			column++
		}
		if i > 0 && column+len(text) > maxTestsLine {
			b.WriteString("\r\n\t")
			column = 0
		}
		b.WriteString(text)
		column += len(text)
	}
	return b.String()
}

// maxExplained bounds a reason up to the end of its rules, in bytes: a trace keeps
// 512.
const maxExplained = 440

// explain gives the reason: the score, what it leads to, and the rules that weigh
// most with their scores.
func explain(found report, consequence string, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "score %s, %s (spamd's own threshold is %s)", number(found.score), consequence, number(found.required))
	named := 0
	for _, r := range found.rules {
		text := fmt.Sprintf("%s %s", r.name, number(r.score))
		if b.Len()+len(text) > maxExplained {
			break
		}
		separator := ", "
		if named == 0 {
			separator = ": "
		}
		b.WriteString(separator + text)
		named++
	}
	if left := len(found.rules) - named; left > 0 {
		fmt.Fprintf(&b, " and %d rules more", left)
	}
	fmt.Fprintf(&b, "; in %s", took)
	return b.String()
}
