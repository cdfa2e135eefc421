package mailbox

import (
	"bytes"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// envelopeFields are the fields of a header section that an ENVELOPE consists
// of (RFC 9051 section 7.5.2), as they came but unfolded, and the two more that
// are searched and that tell conversations apart.
type envelopeFields struct {
	date, subject, inReplyTo, messageID []byte
	addresses                           [numAddressFields][]byte
	references, listID                  []byte
	clipped                             bool // more came than is kept
}

// What is kept beside the message is bounded. A search for what was clipped
// reads the message; ENVELOPE and BODYSTRUCTURE do without it.
const (
	maxField     = 2000     // bytes of a value
	maxAddresses = 16 << 10 // bytes of a list of addresses
)

// clip cuts a value that is too long, between two words if it can.
func clip(value []byte) []byte {
	if len(value) <= maxField {
		return value
	}
	value = value[:maxField]
	if i := bytes.LastIndexByte(value, ' '); i > 0 {
		return value[:i]
	}
	return value[:wholeRunes(value)]
}

// The address fields, in the order of the ENVELOPE.
const (
	fieldFrom = iota
	fieldSender
	fieldReplyTo
	fieldTo
	fieldCc
	fieldBcc
	numAddressFields
)

// field finds the place of a field by its name in lower case.
func (e *envelopeFields) field(name string) *[]byte {
	switch name {
	case "date":
		return &e.date
	case "subject":
		return &e.subject
	case "in-reply-to":
		return &e.inReplyTo
	case "message-id":
		return &e.messageID
	case "references":
		return &e.references
	case "list-id":
		return &e.listID
	case "from":
		return &e.addresses[fieldFrom]
	case "sender":
		return &e.addresses[fieldSender]
	case "reply-to":
		return &e.addresses[fieldReplyTo]
	case "to":
		return &e.addresses[fieldTo]
	case "cc":
		return &e.addresses[fieldCc]
	case "bcc":
		return &e.addresses[fieldBcc]
	default:
		return nil
	}
}

// appendEnvelope appends the compact form: date, subject, the address lists,
// In-Reply-To, Message-ID. Encoded words stay encoded.
func (e *envelopeFields) appendEnvelope(b []byte, p *addressParser) []byte {
	b = e.appendField(b, e.date)
	b = e.appendField(b, e.subject)
	for _, value := range e.addresses {
		b = p.appendAddresses(b, value)
		e.clipped = e.clipped || p.clipped
	}
	b = e.appendField(b, e.inReplyTo)
	return e.appendField(b, e.messageID)
}

func (e *envelopeFields) appendField(b, value []byte) []byte {
	e.clipped = e.clipped || len(value) > maxField
	return appendString(b, clip(value))
}

// envelope is the compact form, taken apart.
type envelope struct {
	date, subject string
	addresses     [numAddressFields]addressList
	inReplyTo     string
	messageID     string
	clipped       bool
}

// addressList is the compact form of a list of addresses.
type addressList struct {
	n    int
	list string
}

func readEnvelope(blob string) envelope {
	r := blobReader{blob}
	var e envelope
	e.date, e.subject = r.string(), r.string()
	for i := range e.addresses {
		e.addresses[i].n = r.count()
		begin := r.rest
		for range e.addresses[i].n {
			r.string()
			r.string()
			r.string()
		}
		e.addresses[i].list = begin[:len(begin)-len(r.rest)]
	}
	e.inReplyTo, e.messageID = r.string(), r.string()
	e.clipped = r.number() != 0
	return e
}

// all calls yield for each address, whose name is still encoded.
func (l addressList) all(yield func(imap.Address) bool) {
	r := blobReader{l.list}
	for range l.n {
		if !yield(imap.Address{Name: r.string(), Mailbox: r.string(), Host: r.string()}) {
			return
		}
	}
}

func (l addressList) decode() []imap.Address {
	if l.n == 0 {
		return nil
	}
	list := make([]imap.Address, 0, l.n)
	for a := range l.all {
		a.Name = decodeWords(a.Name)
		list = append(list, a)
	}
	return list
}

// text gives the list in the form of RFC 5322, for searching.
func (l addressList) text() string {
	var b strings.Builder
	for a := range l.all {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		switch {
		case a.Host == "":
			b.WriteString(decodeWords(a.Mailbox))
		case a.Name == "":
			b.WriteString(a.Addr())
		default:
			b.WriteString(decodeWords(a.Name) + " <" + a.Addr() + ">")
		}
	}
	return b.String()
}

// decode gives the envelope with its texts decoded. Sender and Reply-To default
// to From, as RFC 9051 section 7.5.2 has it.
func (e envelope) decode() *imap.Envelope {
	from := e.addresses[fieldFrom].decode()
	orFrom := func(l addressList) []imap.Address {
		if l.n == 0 {
			return from
		}
		return l.decode()
	}
	date, _ := parseDate(e.date)
	result := &imap.Envelope{
		Date:    date,
		Subject: decodeWords(e.subject),
		From:    from,
		Sender:  orFrom(e.addresses[fieldSender]),
		ReplyTo: orFrom(e.addresses[fieldReplyTo]),
		To:      e.addresses[fieldTo].decode(),
		Cc:      e.addresses[fieldCc].decode(),
		Bcc:     e.addresses[fieldBcc].decode(),
	}
	for id := range messageIDs(e.messageID) {
		result.MessageID = id
		break
	}
	for id := range messageIDs(e.inReplyTo) {
		result.InReplyTo = append(result.InReplyTo, id)
	}
	return result
}

// messageIDs calls yield for each identifier in angle brackets, without them.
func messageIDs[T string | []byte](value T) func(yield func(T) bool) {
	return func(yield func(T) bool) {
		begin := -1
		for i := range len(value) {
			switch value[i] {
			case '<':
				begin = i + 1
			case '>':
				if begin >= 0 && begin < i && !yield(value[begin:i]) {
					return
				}
				begin = -1
			}
		}
	}
}

// unfold gives a field's value without line breaks and the white space around
// it (RFC 5322 section 2.2.3). It works in place.
func unfold(value []byte) []byte {
	value = bytes.TrimSpace(value)
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, 0) < 0 {
		return value
	}
	kept := value[:0]
	for _, c := range value {
		if c != '\r' && c != '\n' && c != 0 {
			kept = append(kept, c)
		}
	}
	return kept
}
