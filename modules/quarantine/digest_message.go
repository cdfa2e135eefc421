package quarantine

import (
	"bytes"
	"fmt"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

// maxListed bounds the messages that a digest lists.
const maxListed = 100

// digest is a message that lists what is newly held for an account.
type digest struct {
	account  string
	hostname string
	id       string
	now      time.Time
	due
}

// writeDigest writes it (RFC 5322, RFC 2045): plain text in UTF-8 as quoted-printable,
// so that no line is long. It says that a program wrote it (RFC 3834). Nothing of what
// strangers have written is in its header section.
func writeDigest(d digest) ([]byte, error) {
	account, err := mail.ParseAddress(d.account)
	if err != nil {
		return nil, fmt.Errorf("write digest for %s: %w", d.account, err)
	}
	sender := mail.Address{LocalPart: "postmaster", Domain: account.Domain}
	var b bytes.Buffer
	for _, field := range [...][2]string{
		{"Return-Path", "<>"},
		{"Date", d.now.Format(time.RFC1123Z)},
		{"From", "Quarantine <" + onTheWire(sender) + ">"},
		{"To", "<" + onTheWire(account) + ">"},
		{"Subject", d.subject()},
		{"Message-ID", "<" + d.id + "@" + asciiDomain(d.hostname) + ">"},
		{"Auto-Submitted", "auto-generated"},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", field[0], field[1])
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(d.text())); err != nil {
		return nil, fmt.Errorf("write digest for %s: %w", d.account, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write digest for %s: %w", d.account, err)
	}
	return b.Bytes(), nil
}

// onTheWire gives an address with its domain in A-labels.
func onTheWire(a mail.Address) string {
	a.Domain = asciiDomain(a.Domain)
	return a.String()
}

func asciiDomain(domain string) string {
	ascii, err := idna.ToASCII(domain)
	if err != nil {
		return domain
	}
	return ascii
}

func (d *digest) subject() string {
	if d.total == 1 {
		return "1 message was held in quarantine"
	}
	return fmt.Sprintf("%d messages were held in quarantine", d.total)
}

// text is the body, with CRLF.
func (d *digest) text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("Mail for %s was held back", d.account)
	line("since the last message of this kind, because the server takes it for")
	line("unwanted or dangerous. It is deleted in the end unless it is released.")
	line("")
	for _, h := range d.list {
		d.entry(line, h)
	}
	if more := d.total - int64(len(d.list)); more > 0 {
		line("and %d more.", more)
		line("")
	}
	line("If you are waiting for one of them, give its id to the postmaster of this")
	line("server, who releases it by")
	line("")
	line("    mox-like quarantine release ID --user %s", shellWord(d.account))
	return b.String()
}

// entry lists one message.
func (d *digest) entry(line func(format string, args ...any), h control.Held) {
	zone := d.now.Location()
	from := quoted(h.From)
	if h.From == "" {
		from = "nobody; sent from " + quoted(h.ReversePath)
	}
	line("%s", h.Received.In(zone).Format("2006-01-02 15:04 MST"))
	line("  From:     %s", from)
	line("  Subject:  %s", quoted(h.Subject))
	line("  Held by:  %s", unlinked(strings.TrimPrefix(h.Handler+": "+h.Reason, ": ")))
	line("  Until:    %s", h.Expires.In(zone).Format("2006-01-02 15:04 MST"))
	line("  Id:       %s", h.ID)
	line("")
}

// maxShown bounds a text of strangers in a digest, in bytes.
const maxShown = 100

// quoted is unlinked for what strangers have written as they liked: the quotes show
// where it begins and ends.
func quoted(text string) string { return `"` + unlinked(strings.ReplaceAll(text, `"`, "'")) + `"` }

// unlinked is for a text of strangers: mail programs make nothing in it into a link,
// and it stays in its line, short enough to be told from what the server says.
func unlinked(text string) string {
	text = mail.Printable(strings.Join(strings.FieldsFunc(text, blank), " "), maxShown)
	runes := []rune(text)
	var b strings.Builder
	for i, r := range runes {
		goesOn := i+1 < len(runes) && runes[i+1] != ' '
		inside := goesOn && i > 0 && runes[i-1] != ' '
		switch {
		case r == '@', r == '\u3002', r == '\uff0e', r == '\uff61', // full stops of other scripts, in names of domains
			goesOn && r == ':',
			inside && r == '.' && (!digit(runes[i-1]) || !digit(runes[i+1])):
			b.WriteString("[" + string(r) + "]")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// blank tells whether a character looks like a space.
func blank(r rune) bool {
	return unicode.IsSpace(r) || strings.ContainsRune("\u115f\u1160\u2800\u3164\uffa0", r)
}

func digit(r rune) bool { return '0' <= r && r <= '9' }

// shellWord quotes what a shell would not take for one word.
func shellWord(text string) string {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_"
	if strings.Trim(text, safe) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
