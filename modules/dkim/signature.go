package dkim

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// signatureField is the name of the field of a signature.
const signatureField = "DKIM-Signature"

// Algorithms (RFC 6376 section 3.3, RFC 8463 section 3). Signatures of rsa-sha1 are
// not looked at (RFC 8301 section 3.1).
const (
	algorithmRSA     = "rsa-sha256"
	algorithmEd25519 = "ed25519-sha256"
	algorithmSHA1    = "rsa-sha1"
)

// Bounds of a signature's field.
const (
	// maxField is for the whole, in bytes; a z= with a copy of the header section
	// takes most of it.
	maxField = 16 << 10
	// maxSigned is for h=; a message can have up to 2000 fields, most have 30.
	maxSigned = 400
)

// signature is a DKIM-Signature field (RFC 6376 section 3.5).
type signature struct {
	algorithm string
	// kind is that of the key that the algorithm takes.
	kind         string
	header, body canonicalization
	// domain is the SDID, and selector its key's name, in A-labels and lower case.
	domain, selector string
	// auid is the AUID as it was written, auidDomain its domain like domain.
	auid, auidDomain string
	// names are those of the signed fields, in lower case.
	names []string
	// limit is l=, or wholeBody.
	limit int64
	// created and expires are Unix times in seconds, 0 if it says none.
	created, expires int64
	bodyHash, value  []byte
	// text is value as it was written, without white space.
	text string
	// bare is the field without the value of b=.
	bare []byte
}

// policyError is what is wrong with a signature that is well-formed and yet not to
// be believed.
type policyError struct{ text string }

// Error says what is wrong.
func (e *policyError) Error() string { return e.text }

// parseSignature reads a field, whose name and line end are in raw. The signature
// has what could be read when there is an error.
func parseSignature(raw []byte) (*signature, error) {
	s := &signature{limit: wholeBody}
	tags, err := s.readTags(raw)
	if err != nil {
		return s, err
	}
	// What says who signs comes first, for the report.
	return s, tags.read(s.readIdentity, s.readAUID, s.readVersion, s.readAlgorithm, s.readValue, s.readBodyHash,
		s.readCanonicalization, s.readSigned, s.readNumbers)
}

// readTags splits a field, and keeps it without the value of b=.
func (s *signature) readTags(raw []byte) (tagList, error) {
	if len(raw) > maxField {
		return nil, fmt.Errorf("the field has %d bytes, more than %d", len(raw), maxField)
	}
	colon := bytes.IndexByte(raw, ':') + 1
	tags, err := parseTags(string(raw[colon:]))
	if err != nil {
		return nil, err
	}
	if b, ok := tags.find("b"); ok {
		s.bare = slices.Concat(raw[:colon+b.start], raw[colon+b.end:])
		s.text = compact(b.value)
	}
	return tags, nil
}

// read has parts of a list read, up to the first error.
func (l tagList) read(parts ...func(tagList) error) error {
	for _, part := range parts {
		if err := part(l); err != nil {
			return err
		}
	}
	return nil
}

// need gives the value of a tag that must be there.
func (l tagList) need(name string) (string, error) {
	value, ok := l.get(name)
	if !ok {
		return "", fmt.Errorf("it has no %s=", name)
	}
	return value, nil
}

// readIdentity reads d=, s= and a=.
func (s *signature) readIdentity(tags tagList) error {
	if a, ok := tags.get("a"); ok && isWord(a) {
		s.algorithm = strings.ToLower(a)
	}
	d, err := tags.need("d")
	if err != nil {
		return err
	}
	selector, err := tags.need("s")
	if err != nil {
		return err
	}
	var ok bool
	if s.domain, ok = asciiName(d); !ok {
		return fmt.Errorf("d=%.80s is no domain", d)
	}
	if s.selector, ok = asciiName(selector); !ok {
		return fmt.Errorf("s=%.80s is no selector", selector)
	}
	if _, ok := asciiName(s.keyName()); !ok {
		return errors.New("d= and s= are too long for the DNS")
	}
	return nil
}

// readAUID reads i=, whose domain is the SDID or below it.
func (s *signature) readAUID(tags tagList) error {
	i, ok := tags.get("i")
	if !ok {
		s.auid, s.auidDomain = "@"+s.domain, s.domain
		return nil
	}
	auid, err := decodeQuotedPrintable(i)
	at := strings.LastIndexByte(auid, '@')
	if err != nil || at < 0 {
		return fmt.Errorf("i=%.80s is no identity of the form local-part@domain", i)
	}
	domain, ok := asciiName(auid[at+1:])
	if !ok {
		return fmt.Errorf("i=%.80s has no domain", i)
	}
	if domain != s.domain && !strings.HasSuffix(domain, "."+s.domain) {
		return fmt.Errorf("the domain of i=%.80s is neither d=%s nor below it", i, s.domain)
	}
	s.auid, s.auidDomain = auid, domain
	return nil
}

// keyName is where the key is in the DNS.
func (s *signature) keyName() string { return s.selector + "._domainkey." + s.domain }

func (s *signature) readVersion(tags tagList) error {
	if v, err := tags.need("v"); err != nil {
		return err
	} else if v != "1" {
		return fmt.Errorf("its version is %.20q, not 1", v)
	}
	if q, ok := tags.get("q"); ok && !slices.ContainsFunc(splitList(q), func(m string) bool { return strings.EqualFold(m, "dns/txt") }) {
		return fmt.Errorf("its key is to be had by other ways than the DNS: q=%.40s", q)
	}
	return nil
}

func (s *signature) readAlgorithm(tags tagList) error {
	a, err := tags.need("a")
	if err != nil {
		return err
	}
	switch s.algorithm {
	case algorithmRSA:
		s.kind = kindRSA
	case algorithmEd25519:
		s.kind = kindEd25519
	case algorithmSHA1:
		return &policyError{"signatures of rsa-sha1 can be forged (RFC 8301)"}
	default:
		return fmt.Errorf("the algorithm a=%.40s is unknown", a)
	}
	return nil
}

// sha256Size is that of a hash in bytes.
const sha256Size = 32

func (s *signature) readValue(tags tagList) error {
	b, err := tags.need("b")
	if err != nil {
		return err
	}
	if s.value, err = decodeBase64(b); err != nil || len(s.value) == 0 {
		return errors.New("b= is empty or not in base64")
	}
	return nil
}

func (s *signature) readBodyHash(tags tagList) error {
	bh, err := tags.need("bh")
	if err != nil {
		return err
	}
	if s.bodyHash, err = decodeBase64(bh); err != nil || len(s.bodyHash) != sha256Size {
		return errors.New("bh= is no SHA-256 in base64")
	}
	return nil
}

func (s *signature) readCanonicalization(tags tagList) error {
	c, ok := tags.get("c")
	if !ok {
		return nil
	}
	header, body, both := strings.Cut(c, "/")
	if s.header, ok = parseCanonicalization(header); ok && both {
		s.body, ok = parseCanonicalization(body)
	}
	if !ok {
		return fmt.Errorf("the canonicalization c=%.40s is unknown", c)
	}
	return nil
}

func parseCanonicalization(s string) (canonicalization, bool) {
	switch strings.ToLower(s) {
	case "simple":
		return simple, true
	case "relaxed":
		return relaxed, true
	default:
		return simple, false
	}
}

// readSigned reads h=.
func (s *signature) readSigned(tags tagList) error {
	h, err := tags.need("h")
	if err != nil {
		return err
	}
	if strings.Count(h, ":") >= maxSigned {
		return fmt.Errorf("h= has more than %d names", maxSigned)
	}
	s.names = splitList(strings.ToLower(h))
	if slices.Contains(s.names, "") {
		return errors.New("h= has an empty name")
	}
	if !slices.Contains(s.names, "from") {
		return errors.New("the From field is not signed: it is not in h=")
	}
	return nil
}

// readNumbers reads l=, t= and x=.
func (s *signature) readNumbers(tags tagList) error {
	var err error
	if s.limit, err = number(tags, "l", wholeBody); err != nil {
		return err
	}
	if s.created, err = number(tags, "t", 0); err != nil {
		return err
	}
	if s.expires, err = number(tags, "x", 0); err != nil {
		return err
	}
	if _, ok := tags.get("x"); ok && s.expires <= s.created {
		return errors.New("x= is not after t=: it expires before it was made")
	}
	return nil
}

// number reads a tag of digits; numbers beyond all need stay at the greatest.
func number(tags tagList, name string, otherwise int64) (int64, error) {
	text, ok := tags.get(name)
	if !ok {
		return otherwise, nil
	}
	if text == "" || strings.Trim(text, "0123456789") != "" || len(text) > 76 {
		return otherwise, fmt.Errorf("%s=%.80s is no number", name, text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return math.MaxInt64, nil //nolint:nilerr // digits alone: the number is too great
	}
	return n, nil
}

// asciiName gives a domain, or a selector, in A-labels and lower case; false if the
// DNS cannot have it or no host's name is like it.
func asciiName(s string) (string, bool) {
	for i := range len(s) {
		if s[i] >= 0x80 {
			ascii, err := idna.Lookup.ToASCII(s)
			if err != nil {
				return "", false
			}
			s = ascii
			break
		}
	}
	s = strings.ToLower(s)
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case isAlpha(c) || isDigit(c) || c == '-' || c == '_':
			label++
		case c == '.' && label > 0:
			label = 0
		default:
			return "", false
		}
		if label > 63 {
			return "", false
		}
	}
	if label == 0 || len(s) > 253 {
		return "", false
	}
	return s, true
}

var errQuotedPrintable = errors.New("it is not in quoted-printable")

// decodeQuotedPrintable reads dkim-quoted-printable (RFC 6376 section 2.11), in
// which white space means nothing.
func decodeQuotedPrintable(s string) (string, error) {
	s = compact(s)
	if strings.IndexByte(s, '=') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b.WriteByte(s[i])
			continue
		}
		if i+3 > len(s) || strings.Trim(s[i+1:i+3], "0123456789ABCDEF") != "" {
			return "", errQuotedPrintable
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", errQuotedPrintable
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), nil
}
