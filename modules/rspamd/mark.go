package rspamd

import (
	"fmt"
	"math"
	"mime"
	"strconv"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// The header fields that tell what was found, as the handler spamassassin writes
// them; X-Spam is what rspamd's milter adds.
const (
	fieldSpam   = "X-Spam"
	fieldFlag   = "X-Spam-Flag"
	fieldScore  = "X-Spam-Score"
	fieldStatus = "X-Spam-Status"
)

// maxForged bounds the different names of such fields that are taken out of a
// message. Real ones have less than ten; each one is looked for in all fields.
const maxForged = 50

// isMark tells whether a field of that name claims to be from a spam filter.
func isMark(name string) bool {
	for _, prefix := range [...]string{"x-spam-", "x-spamd-", "x-rspamd-"} {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			return true
		}
	}
	return strings.EqualFold(name, fieldSpam)
}

// removeMarks takes out of the message what claims to be from a spam filter, and
// gives the number of different names.
func removeMarks(tx *mail.Transaction) int {
	seen := make(map[string]bool)
	for _, f := range tx.Message.Header.Fields {
		if isMark(f.Name) {
			if seen[strings.ToLower(f.Name)] = true; len(seen) > maxForged {
				return len(seen)
			}
		}
	}
	for name := range seen {
		tx.RemoveHeaderFields(name)
	}
	// What another handler of this kind has added goes too.
	for _, name := range [...]string{fieldSpam, fieldFlag, fieldScore, fieldStatus} {
		tx.RemoveHeaderFields(name)
	}
	return len(seen)
}

// mark says in the message what was found.
func mark(tx *mail.Transaction, found answer, spam bool) {
	flag, word := "NO", "No"
	if spam {
		flag, word = "YES", "Yes"
		tx.AddTag("rspamd=spam")
	}
	required := ""
	if found.threshold > 0 {
		required = fmt.Sprintf(" required=%.1f", found.threshold)
	}
	tx.AddHeaderField(fieldStatus, fmt.Sprintf("%s, score=%.1f%s%s", word, found.score, required, tests(found.symbols)))
	tx.AddHeaderField(fieldScore, fmt.Sprintf("%.1f", found.score))
	tx.AddHeaderField(fieldFlag, flag)
	if spam {
		tx.AddHeaderField(fieldSpam, "Yes")
	}
}

// Bounds of the field with the symbols.
const (
	maxTests     = 100
	maxTestsLine = 70
)

// tests gives the symbols that have points, with those, for X-Spam-Status, folded.
func tests(symbols []symbol) string {
	var b strings.Builder
	column, named := 0, 0
	for _, s := range symbols {
		if s.score == 0 || named == maxTests {
			break
		}
		if !isSymbol(s.name) {
			continue
		}
		text := s.name + "=" + number(s.score)
		switch {
		case named == 0:
			b.WriteString("\r\n\ttests=")
			column = len("tests=")
		case column+1+len(text) > maxTestsLine:
			b.WriteString(",\r\n\t")
			column = 0
		default:
			b.WriteByte(',')
			column++
		}
		b.WriteString(text)
		column += len(text)
		named++
	}
	return b.String()
}

// isSymbol tells whether a symbol's name can stand in a list.
func isSymbol(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || strings.IndexByte(",=;:\"()<>", c) >= 0 {
			return false
		}
	}
	return len(name) <= maxName
}

// Bounds of a reason, in bytes.
const (
	maxExplained = 440 // up to the symbols
	maxReason    = 500
	maxOptions   = 3
	maxOption    = 32
)

// explain gives the reason: what rspamd says, what it leads to, and the symbols
// that weigh most, with their points and what they matched on.
func explain(found answer, consequence string, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "rspamd says %s", found.action)
	if found.message != "" {
		fmt.Fprintf(&b, " (%s)", mail.Printable(found.message, 80))
	}
	fmt.Fprintf(&b, ", score %s", number(found.score))
	if found.required != 0 {
		fmt.Fprintf(&b, " of %s", number(found.required))
	}
	if consequence != "" {
		fmt.Fprintf(&b, ": %s", consequence)
	}
	named := 0
	for _, s := range found.symbols {
		text := "; " + s.text()
		if s.score == 0 || b.Len()+len(text) > maxExplained {
			break
		}
		b.WriteString(text)
		named++
	}
	pointless := countPointless(found.symbols)
	if left := len(found.symbols) - named - pointless; left > 0 {
		fmt.Fprintf(&b, "; %d symbols more", left)
	}
	if pointless > 0 {
		fmt.Fprintf(&b, "; %d without points", pointless)
	}
	if found.changes.left > 0 {
		fmt.Fprintf(&b, "; %d changes to fields not made", found.changes.left)
	}
	fmt.Fprintf(&b, "; in %s", took)
	return mail.Printable(b.String(), maxReason)
}

func countPointless(symbols []symbol) int {
	n := 0
	for _, s := range symbols {
		if s.score == 0 {
			n++
		}
	}
	return n
}

// text gives a symbol for people.
func (s symbol) text() string {
	text := mail.Printable(s.name, maxName) + " " + number(s.score)
	var options []string
	for _, o := range s.options[:min(len(s.options), maxOptions)] {
		options = append(options, mail.Printable(o, maxOption))
	}
	if len(s.options) > maxOptions {
		options = append(options, "…")
	}
	if len(options) > 0 {
		text += " [" + strings.Join(options, ", ") + "]"
	}
	return text
}

// number gives a score as people write it.
func number(score float64) string {
	return strconv.FormatFloat(math.Round(score*100)/100+0, 'f', -1, 64)
}

// rewriteSubject puts a subject in the place of the one that the message has
// (RFC 2047).
func rewriteSubject(tx *mail.Transaction, subject string) {
	if len(subject) > maxSubject {
		subject = subject[:maxSubject]
	}
	subject = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(subject, ""), func(c rune) bool { return c <= ' ' || c == 0x7f }), " ")
	var b strings.Builder
	column := len("Subject: ")
	for i, word := range strings.Split(mime.QEncoding.Encode("utf-8", subject), " ") {
		switch {
		case i > 0 && column+1+len(word) > maxTestsLine:
			b.WriteString("\r\n ")
			column = 1
		case i > 0:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	tx.RemoveHeaderFields("Subject")
	tx.AddHeaderField("Subject", b.String())
}
