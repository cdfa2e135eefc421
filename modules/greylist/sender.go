package greylist

import (
	"strings"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/mail"
)

// maxName bounds what is kept of a client, a sender or a recipient, in bytes.
// RFC 5321 section 4.5.3.1 allows 320; a domain can be longer in U-labels.
const maxName = 512

// nullSender stands for the null reverse-path.
const nullSender = "<>"

// plainAddress gives the address of the mailbox behind a reverse-path or a
// recipient: in lower case, without +tag, and without what signs it for bounces
// (BATV). Its domain is that of the address, so that SPF tells whether it is
// forged, whatever the local-part says.
func plainAddress(a mail.Address) mail.Address { return reduce(a, unsigned) }

// lastingAddress gives what stays the same of an address from one message to the
// next. It is plainAddress, and in addition the recipient is cut off that mailing
// lists write into it (VERP), and numbers and identifiers become #:
//
//	prvs=0123abcdef=bob@example.org      bob@example.org
//	bounce+alice=example.test@…          bounce@…
//	list-bounces-42-alice=example.test@… list@…
//	0100018f2b3c4d5e-1a2b3c4d@…          #-#@…
func lastingAddress(a mail.Address) mail.Address {
	return reduce(a, func(a mail.Address) mail.Address { return lasting(plainAddress(a)) })
}

// normalSender gives what counts of a reverse-path in a triplet: the
// lastingAddress of the one that was there before forwarders rewrote it (SRS):
//
//	SRS0=hhh=tt=example.org=bob@example.net  bob@example.org
//
// Anybody can write such a local-part, so that it must let nobody in: a triplet
// is of a client too. The normal form of a normal form is itself.
func normalSender(a mail.Address) mail.Address {
	return reduce(a, func(a mail.Address) mail.Address { return lasting(reduce(a, unwrapped)) })
}

func lasting(a mail.Address) mail.Address {
	a.LocalPart = withoutNumbers(withoutVERP(a.LocalPart))
	return a
}

// senderName gives the name under which a sender is kept.
func senderName(a mail.Address) string {
	if a.IsNull() {
		return nullSender
	}
	return bounded(a.String())
}

// reduce applies a step until it changes nothing. Every step but the first makes
// the address shorter or leaves fewer digits, so that it ends.
func reduce(a mail.Address, step func(mail.Address) mail.Address) mail.Address {
	for {
		next := step(a)
		if next == a {
			return a
		}
		a = next
	}
}

// unsigned takes one layer off an address that leaves its domain as it is.
func unsigned(a mail.Address) mail.Address {
	if a.IsNull() {
		return a
	}
	a = a.Fold()
	a.LocalPart = withoutBATV(a.LocalPart)
	return a.Base()
}

// unwrapped takes one layer off an address, which may be that of a forwarder.
func unwrapped(a mail.Address) mail.Address {
	if original, ok := srsOriginal(a.Fold().LocalPart); ok {
		return original
	}
	return unsigned(a)
}

// srsOriginal gives the address that a forwarder has rewritten by the Sender
// Rewriting Scheme: SRS0=hash=time=domain=local, or from the second forwarder on
// SRS1=hash=forwarder==hash=time=domain=local. The first separator may be + or -
// as well. The local-part is in lower case.
func srsOriginal(local string) (mail.Address, bool) {
	if len(local) < 6 || !strings.ContainsRune("=+-", rune(local[4])) {
		return mail.Address{}, false
	}
	rest := local[5:]
	switch local[:4] {
	case "srs0":
	case "srs1":
		var ok bool
		if _, rest, ok = strings.Cut(rest, "="); !ok { // the hash
			return mail.Address{}, false
		}
		// The forwarder ends at its separator and the first forwarder's: ==, =+, =-.
		end := strings.IndexByte(rest, '=')
		if end < 0 || end+2 > len(rest) || !strings.ContainsRune("=+-", rune(rest[end+1])) {
			return mail.Address{}, false
		}
		rest = rest[end+2:]
	default:
		return mail.Address{}, false
	}
	parts := strings.SplitN(rest, "=", 4)
	if len(parts) < 4 || parts[3] == "" {
		return mail.Address{}, false
	}
	domain, err := mail.ParseDomain(parts[2])
	if err != nil {
		return mail.Address{}, false
	}
	return mail.Address{LocalPart: parts[3], Domain: domain}, true
}

// batvPrefixes begin a local-part that is signed by Bounce Address Tag
// Validation, or by what resembles it: prefix=tag=local.
var batvPrefixes = [...]string{"prvs=", "msprvs1=", "btv1=="}

// withoutBATV gives the local-part inside a signed one.
func withoutBATV(local string) string {
	for _, prefix := range batvPrefixes {
		rest, ok := strings.CutPrefix(local, prefix)
		if !ok {
			continue
		}
		if _, inner, ok := strings.Cut(rest, "="); ok {
			if inner = strings.TrimLeft(inner, "="); inner != "" {
				return inner
			}
		}
	}
	return local
}

// withoutVERP cuts off a recipient that is written into the local-part as
// user=host, from the first separator on.
func withoutVERP(local string) string {
	prefix, _, ok := strings.Cut(local, "=")
	if !ok {
		return local
	}
	if separator := strings.IndexAny(prefix, "-_./"); separator > 0 {
		return local[:separator]
	}
	return "="
}

// withoutNumbers replaces numbers and identifiers by #: words of letters and
// digits that are hexadecimal or long, else the digits in them.
func withoutNumbers(local string) string {
	if !strings.ContainsAny(local, "0123456789") {
		return local
	}
	var b strings.Builder
	for len(local) > 0 {
		n := wordLength(local)
		if n == 0 {
			b.WriteByte(local[0])
			local = local[1:]
			continue
		}
		appendWord(&b, local[:n])
		local = local[n:]
	}
	return b.String()
}

// Words of at least these lengths that contain a digit are identifiers.
const (
	hexWord  = 6
	longWord = 16
)

func appendWord(b *strings.Builder, word string) {
	if !strings.ContainsAny(word, "0123456789") {
		b.WriteString(word)
		return
	}
	isHex := strings.Trim(word, "0123456789abcdef") == ""
	if len(word) >= longWord || isHex && len(word) >= hexWord {
		b.WriteByte('#')
		return
	}
	inNumber := false
	for i := range len(word) {
		isDigit := word[i] >= '0' && word[i] <= '9'
		switch {
		case !isDigit:
			b.WriteByte(word[i])
		case !inNumber:
			b.WriteByte('#')
		}
		inNumber = isDigit
	}
}

// wordLength is how many letters and digits s begins with.
func wordLength(s string) int {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}

// bounded cuts a name that is too long to be kept.
func bounded(name string) string {
	if len(name) <= maxName {
		return name
	}
	end := maxName
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end]
}
