package dkim

import (
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// signing says how a message is signed.
type signing struct {
	// instance is that of an ARC-Message-Signature, 0 for a DKIM-Signature.
	instance         int
	domain, selector string
	key              *privateKey
	header, body     canonicalization
	created          time.Time
	// lifetime is the time after which the signature expires, 0 for never.
	lifetime time.Duration
}

// signedNames gives the names for h=: those of fields once for each such field of
// the message, and those of over once more, so that nobody can add another.
func signedNames(index fieldIndex, fields, over []string) []string {
	var names []string
	add := func(list []string, more int) {
		for _, name := range list {
			for range len(index[name]) + more {
				names = append(names, name)
			}
		}
	}
	add(over, 1)
	add(fields, 0)
	return names
}

// signMessage gives the value of a signature's field for each of list, folded. It
// reads the body once. The header section is what the body follows; index is its.
func signMessage(h mail.HeaderSection, index fieldIndex, body io.Reader, names []string, list []signing) ([]string, error) {
	forms := make([]bodyForm, 0, len(list))
	for _, s := range list {
		forms = append(forms, bodyForm{s.body, wholeBody})
	}
	sums, err := hashBody(body, forms)
	if err != nil {
		return nil, err
	}
	values := make([]string, 0, len(list))
	for _, s := range list {
		value := s.value(names, sums[bodyForm{s.body, wholeBody}].hash)
		hash := headerHash(h, index, names, s.header, noField, []byte(s.field()+": "+value))
		signed, err := s.key.sign(hash)
		if err != nil {
			return nil, fmt.Errorf("sign for %s with selector %s: %w", s.domain, s.selector, err)
		}
		values = append(values, value+folded(base64.StdEncoding.EncodeToString(signed)))
	}
	return values, nil
}

// field is the name of the field.
func (s *signing) field() string {
	if s.instance > 0 {
		return arcFields[arcMessage]
	}
	return signatureField
}

const (
	// fold begins the further lines of a field.
	fold = "\r\n\t"
	// width is how long a line becomes, in bytes (RFC 5322 section 2.1.1).
	width = 76
)

// value makes the field's value with an empty b= at its end.
func (s *signing) value(names []string, bodyHash []byte) string {
	var b strings.Builder
	b.Grow(512)
	form := "v=1; a=%s; c=%s/%s; d=%s;" + fold + "s=%s; t=%d;"
	if s.instance > 0 {
		form = "i=" + strconv.Itoa(s.instance) + "; a=%s; c=%s/%s;" + fold + "d=%s; s=%s; t=%d;"
	}
	fmt.Fprintf(&b, form, s.key.algorithm(), s.header, s.body, s.domain, s.selector, s.created.Unix())
	if s.lifetime > 0 {
		b.WriteString(" x=" + strconv.FormatInt(s.created.Add(s.lifetime).Unix(), 10) + ";")
	}
	b.WriteString(fold + "h=")
	line := 3
	for i, name := range names {
		if i > 0 {
			b.WriteByte(':')
			line++
		}
		if line+len(name) > width && i > 0 {
			b.WriteString(fold)
			line = 1
		}
		b.WriteString(name)
		line += len(name)
	}
	b.WriteString(";" + fold + "bh=" + base64.StdEncoding.EncodeToString(bodyHash) + ";" + fold + "b=")
	return b.String()
}

// folded breaks base64 into lines.
func folded(s string) string {
	const first = width - len("\tb=")
	if len(s) <= first {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:first])
	for s = s[first:]; len(s) > 0; {
		n := min(len(s), width-1)
		b.WriteString(fold + s[:n])
		s = s[n:]
	}
	return b.String()
}
