package ratelimit

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/mail"
)

// part is one thing that a key is made of.
type part uint8

const (
	partIP part = iota
	partUser
	partFrom
	partFromDomain
	partRcpt
	partRcptDomain
)

// partNames are the values of key, in the order of the parts.
var partNames = [...]string{"ip", "user", "from", "from_domain", "rcpt", "rcpt_domain"}

// parts are what a key is made of, in the order of the file, each once.
type parts []part

// parseParts reads names that have been checked.
func parseParts(names []string) parts {
	var list parts
	for _, name := range names {
		p := part(slices.Index(partNames[:], name))
		if !list.has(p) {
			list = append(list, p)
		}
	}
	return list
}

func (ps parts) has(p part) bool { return slices.Contains(ps, p) }

// known is the first stage at which every part is known.
func (ps parts) known() mail.Stage {
	stage := mail.StageConnect
	for _, p := range ps {
		switch p {
		case partIP:
		case partUser, partFrom, partFromDomain:
			stage = max(stage, mail.StageMail)
		case partRcpt, partRcptDomain:
			stage = max(stage, mail.StageRcpt)
		}
	}
	return stage
}

// onlyUser tells that nothing of the envelope is needed.
func (ps parts) onlyUser() bool {
	return !ps.has(partFrom) && !ps.has(partFromDomain) && !ps.hasRecipient()
}

// onlySender tells that nothing but the reverse-path is needed.
func (ps parts) onlySender() bool {
	return !slices.ContainsFunc(ps, func(p part) bool { return p != partFrom && p != partFromDomain })
}

// nullSender stands for the null reverse-path beside other parts. Alone it would
// make one counter of all bounces, which anybody could fill.
const nullSender = "<>"

// hasRecipient tells that each recipient of a message has a counter of its own.
func (ps parts) hasRecipient() bool { return ps.has(partRcpt) || ps.has(partRcptDomain) }

// key names a counter: a network's address, or a hash of what the parts are, so
// that it has no pointers and the database no names.
type key [16]byte

// maxKeyText is room for the usual parts; longer ones cost an allocation.
const maxKeyText = 512

// key gives the counter of a transaction and one of its recipients, which may be
// nil; false if a part is not known.
func (r *Ratelimit) key(tx *mail.Transaction, recipient *mail.Recipient) (key, bool) {
	if len(r.parts) == 1 && r.parts[0] == partIP {
		network, ok := r.network(tx)
		return network.Addr().As16(), ok
	}
	var room [maxKeyText]byte
	text := room[:0]
	for _, p := range r.parts {
		before := len(text)
		text = r.appendPart(text, p, tx, recipient)
		if len(text) == before {
			return key{}, false
		}
		text = append(text, 0)
	}
	sum := sha256.Sum256(text)
	return key(sum[:len(key{})]), true
}

// network gives the client's network; false for a client without an IP address,
// such as one on a unix socket.
func (r *Ratelimit) network(tx *mail.Transaction) (netip.Prefix, bool) {
	addr := tx.Session.RemoteAddr.Addr().Unmap()
	if !addr.IsValid() {
		return netip.Prefix{}, false
	}
	bits := r.IPv6Prefix
	if addr.Is4() {
		bits = r.IPv4Prefix
	}
	network, err := addr.WithZone("").Prefix(bits)
	return network, err == nil
}

// appendPart appends what a part is in this transaction, nothing if that is not
// known. Different spellings of one address give the same.
func (r *Ratelimit) appendPart(text []byte, p part, tx *mail.Transaction, recipient *mail.Recipient) []byte {
	switch p {
	case partIP:
		network, ok := r.network(tx)
		if !ok {
			return text
		}
		return network.AppendTo(text)
	case partUser:
		return appendUser(text, tx)
	case partFrom, partFromDomain:
		return r.appendSender(text, p, tx.Envelope.ReversePath)
	case partRcpt:
		if recipient == nil {
			return text
		}
		return appendAddress(text, recipient.Address.Base())
	case partRcptDomain:
		if recipient == nil {
			return text
		}
		return append(text, recipient.Address.Domain...)
	}
	return text
}

func (r *Ratelimit) appendSender(text []byte, p part, reversePath mail.Address) []byte {
	switch {
	case reversePath.IsNull() && !r.parts.onlySender():
		return append(text, nullSender...)
	case p == partFrom:
		return appendAddress(text, reversePath)
	default:
		return append(text, reversePath.Domain...)
	}
}

// appendUser appends who has logged in or, at the auth stage, who wants to.
func appendUser(text []byte, tx *mail.Transaction) []byte {
	switch {
	case tx.Session.User != "":
		return append(text, tx.Session.User...)
	case tx.Authenticated() != "":
		return append(text, tx.Authenticated()...)
	case tx.Credentials == nil:
		return text
	}
	name := tx.Credentials.Username
	if address, err := mail.ParseAddress(name); err == nil {
		return appendAddress(text, address)
	}
	return appendFolded(text, name)
}

func appendAddress(text []byte, a mail.Address) []byte {
	if a.IsNull() {
		return text
	}
	text = appendFolded(text, a.LocalPart)
	text = append(text, '@')
	return append(text, a.Domain...)
}

// appendFolded appends s in lower case.
func appendFolded(text []byte, s string) []byte {
	for _, r := range s {
		text = utf8.AppendRune(text, unicode.ToLower(r))
	}
	return text
}

// describe names what is counted by, for people.
func (r *Ratelimit) describe(tx *mail.Transaction, recipient *mail.Recipient) string {
	var room [maxKeyText]byte
	text := room[:0]
	for i, p := range r.parts {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = append(append(text, partNames[p]...), ' ')
		text = r.appendPart(text, p, tx, recipient)
	}
	return string(text)
}
