package senderlogin

import (
	"errors"
	"fmt"
	"io"
	"mime"
	netmail "net/mail"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// sender is a mailbox that a field names.
type sender struct {
	field   string
	address mail.Address
}

// maxSenders bounds the mailboxes of a field. Real messages have one.
const maxSenders = 100

var (
	errNoFrom      = errors.New("there is no From field")
	errManyFrom    = errors.New("there is more than one From field")
	errManySender  = errors.New("there is more than one Sender field, or more than one mailbox in it")
	errNoField     = errors.New("the header has a line that is no field")
	errNoMailbox   = errors.New("the field names no mailbox")
	errManyMailbox = fmt.Errorf("the field names more than %d mailboxes", maxSenders)
)

// senders gives the mailboxes in From and Sender (RFC 5322 section 3.6.2). Any
// doubt about who is named is an error, since a client that shows the message
// may decide otherwise.
func senders(h mail.HeaderSection) ([]sender, error) {
	// A client may take the line for a From that it can read.
	if slices.ContainsFunc(h.Fields, func(f mail.HeaderField) bool { return f.Name == "" }) {
		return nil, errNoField
	}
	switch h.Count("From") {
	case 0:
		return nil, errNoFrom
	case 1:
	default:
		return nil, errManyFrom
	}
	from, err := mailboxes("From", h.Get("From"))
	if err != nil || h.Count("Sender") == 0 {
		return from, err
	}
	if h.Count("Sender") > 1 {
		return nil, errManySender
	}
	other, err := mailboxes("Sender", h.Get("Sender"))
	if err == nil && len(other) > 1 {
		err = errManySender
	}
	return append(from, other...), err
}

// mailboxes reads a list of mailboxes, also in groups (RFC 6854).
func mailboxes(field, value string) ([]sender, error) {
	// What the names say does not matter, so any charset will do.
	decoder := &mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}
	parser := netmail.AddressParser{WordDecoder: decoder}
	list, err := parser.ParseList(value)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", field, err)
	case len(list) == 0:
		return nil, fmt.Errorf("read %s: %w", field, errNoMailbox)
	case len(list) > maxSenders:
		return nil, fmt.Errorf("read %s: %w", field, errManyMailbox)
	}
	all := make([]sender, 0, len(list))
	for _, m := range list {
		address, err := parseMailbox(m.Address)
		if err != nil {
			return nil, fmt.Errorf("read %s: address %q: %w", field, m.Address, err)
		}
		all = append(all, sender{field, address})
	}
	return all, nil
}

// parseMailbox brings local-part@domain, where the local-part has no quotes any
// more, into the form of the envelope's addresses.
func parseMailbox(s string) (mail.Address, error) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return mail.Address{}, mail.ErrAddressSyntax
	}
	return mail.ParseAddress(mail.Address{LocalPart: s[:at], Domain: s[at+1:]}.String())
}
