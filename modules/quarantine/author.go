package quarantine

import (
	"fmt"
	"mime"
	netmail "net/mail"
	"slices"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"github.com/mox-like/mox-like/core/mail"
)

// author is who a message is from, by its field From.
type author struct {
	// address is the zero Address if there is not one field with one address.
	address mail.Address
	// authenticated says what shows that the domain stands behind the message, such as
	// dmarc=pass; "" if nothing does, and then why says so.
	authenticated string
	why           string
}

// authorOf finds the author of a message and whether he is who he says.
func authorOf(tx *mail.Transaction) author {
	var a author
	var value string
	if tx.Message.Header.Count("From") == 1 {
		value = tx.Message.Header.Get("From")
	}
	if a.address = parseAuthor(value); a.address.IsNull() {
		a.why = "the message has not one field From with one address"
		return a
	}
	a.authenticated, a.why = authenticated(tx.AuthResults(), a.address.Domain)
	return a
}

// maxFrom bounds a field From that is parsed, in bytes.
const maxFrom = 8 << 10

// parseAuthor gives the address of a field From (RFC 5322 section 3.6.2), in lower
// case; the zero Address unless it has one address alone.
func parseAuthor(value string) mail.Address {
	if len(value) > maxFrom {
		return mail.Address{}
	}
	list, err := netmail.ParseAddressList(value)
	if err != nil || len(list) != 1 {
		return mail.Address{}
	}
	at := strings.LastIndexByte(list[0].Address, '@')
	if at < 0 {
		return mail.Address{}
	}
	// net/mail gives a quoted local-part without the quotes.
	domain, err := mail.ParseDomain(list[0].Address[at+1:])
	if err != nil || strings.HasPrefix(domain, "[") {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(mail.Address{LocalPart: list[0].Address[:at], Domain: domain}.String())
	if err != nil {
		return mail.Address{}
	}
	return a.Fold()
}

// authenticated tells by which result a domain is shown to stand behind a message,
// or why by none. Where DMARC found a record, its word counts. Where there is none,
// or nobody asked, a DKIM signature or an SPF pass counts that is of the same domain
// or of one above it: an organization stands for its subdomains, and not the other
// way round.
func authenticated(results []mail.AuthResult, domain string) (by, why string) {
	for _, r := range results {
		if r.Method != "dmarc" || r.Result == "none" {
			continue
		}
		if r.Result != "pass" {
			return "", "dmarc=" + r.Result
		}
		if propertyDomain(r, "header", "from") == domain {
			by = "dmarc=pass"
		}
	}
	if by != "" {
		return by, ""
	}
	for _, r := range results {
		var of string
		switch r.Method {
		case "dkim":
			of = propertyDomain(r, "header", "d")
		case "spf":
			of = propertyDomain(r, "smtp", "mailfrom")
		}
		if r.Result == "pass" && speaksFor(of, domain) {
			return fmt.Sprintf("%s=pass for %s", r.Method, of), ""
		}
	}
	return "", "neither DMARC, DKIM nor SPF shows that " + domain + " stands behind the message"
}

// propertyDomain gives the domain that a result has judged, in normal form; "" if
// there is none.
func propertyDomain(r mail.AuthResult, kind, name string) string {
	i := slices.IndexFunc(r.Properties, func(p mail.Property) bool { return p.Type == kind && p.Name == name })
	if i < 0 {
		return ""
	}
	value := r.Properties[i].Value
	domain, err := mail.ParseDomain(value[strings.LastIndexByte(value, '@')+1:])
	if err != nil {
		return ""
	}
	return domain
}

// speaksFor tells whether what is shown of one domain counts for another.
func speaksFor(shown, domain string) bool {
	if shown == "" || shown == domain {
		return shown != ""
	}
	if !strings.HasSuffix(domain, "."+shown) {
		return false
	}
	return labels(shown) > suffixLabels(shown)
}

// labels counts those of a domain.
func labels(domain string) int { return strings.Count(domain, ".") + 1 }

// suffixLabels gives how many labels of a domain, from its end, are a public suffix:
// a domain of so many belongs to nobody.
func suffixLabels(domain string) int {
	ascii, err := idna.ToASCII(domain)
	if err != nil {
		return labels(domain) // it is no domain of anybody
	}
	suffix, _ := publicsuffix.PublicSuffix(ascii)
	return labels(suffix)
}

// maxAbove is how many labels a domain may have to be looked for as one above an
// author's.
const maxAbove = 8

// senders gives the names under which an author can be allowed: his address, and the
// domain with those above it that somebody can own.
func senders(a mail.Address) []string {
	list := []string{a.String(), a.Domain}
	least := suffixLabels(a.Domain)
	above := a.Domain
	for n := labels(a.Domain) - 1; n > least; n-- {
		if _, above, _ = strings.Cut(above, "."); n <= maxAbove {
			list = append(list, above)
		}
	}
	return list
}

// Bounds of what is kept of a header field, in bytes.
const (
	maxRaw   = 2000 // before it is decoded
	maxField = 320
)

// readable gives the value of a header field for people: encoded words are decoded
// (RFC 2047), and nothing is left in it that does not belong on a terminal.
func readable(value string) string {
	value = value[:min(len(value), maxRaw)]
	if decoded, err := new(mime.WordDecoder).DecodeHeader(value); err == nil {
		value = decoded
	}
	return mail.Printable(strings.ToValidUTF8(strings.TrimSpace(value), "?"), maxField)
}
