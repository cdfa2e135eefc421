package mailbox

import "bytes"

// Addresses that lack a part are given these, as other servers do: an empty
// mailbox or host would mean the begin or end of a group in IMAP.
const (
	missingMailbox = "MISSING_MAILBOX"
	missingHost    = "MISSING_DOMAIN"
)

// addressParser reads the address lists of header fields (RFC 5322 section 3.4,
// with the obsolete forms) and whatever else strangers write there. Its buffers
// are used again for the next field.
type addressParser struct {
	in      []byte
	pos     int
	out     []byte // the addresses, see appendAddress
	n       int64  // their number
	word    []byte // the phrase or local-part so far, its words with spaces between
	words   int    // how many
	name    []byte // the display name before an address in angle brackets
	comment []byte
	host    []byte
	group   bool
	clipped bool // an address was left out
}

// appendAddresses appends the number of addresses in a field's value, and each
// as name, mailbox and host. A group is its name as a mailbox without host, its
// members, and an address without both. Beyond maxAddresses they are left out.
func (p *addressParser) appendAddresses(b, value []byte) []byte {
	p.in, p.pos, p.out, p.n, p.group, p.clipped = value, 0, p.out[:0], 0, false, false
	p.reset()
	for p.pos < len(p.in) {
		p.step()
	}
	p.flush()
	p.endGroup()
	b = appendNumber(b, p.n)
	return append(b, p.out...)
}

// step reads one token.
func (p *addressParser) step() {
	switch c := p.in[p.pos]; c {
	case ' ', '\t', '\r', '\n', '>', ')':
		p.pos++
	case '(':
		p.comment = p.skipComment(p.comment[:0])
	case ',':
		p.pos++
		p.flush()
	case ';':
		p.pos++
		p.flush()
		p.endGroup()
	case ':':
		p.pos++
		if !p.group && p.words > 0 {
			p.emit(nil, p.word, nil)
			p.group = !p.clipped
		}
		p.reset()
	case '<':
		p.pos++
		p.angle()
	case '@':
		p.pos++
		p.domain()
		p.emit(p.trailingComment(), p.localPart(), p.hostOr(missingHost))
		p.reset()
	case '"':
		p.quoted()
	default:
		p.atom()
	}
}

// trailingComment reads the comment that follows a bare address, which is how names
// were written once: bob@example.org (Bob).
func (p *addressParser) trailingComment() []byte {
	p.skipSpace()
	if p.pos < len(p.in) && p.in[p.pos] == '(' {
		p.comment = p.skipComment(p.comment[:0])
	}
	return p.comment
}

// angle reads the address in angle brackets, after the opening one. A source
// route before it is left out.
func (p *addressParser) angle() {
	p.name = append(p.name[:0], p.word...)
	if len(p.name) == 0 {
		p.name = append(p.name, p.comment...)
	}
	p.reset()
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; c {
		case '>':
			p.pos++
			p.emit(p.name, p.localPart(), p.hostOr(missingHost))
			p.reset()
			return
		case '@':
			p.pos++
			p.domain()
		case ':', ',':
			p.pos++
			p.reset()
		case '(':
			p.skipComment(nil)
		case ' ', '\t', '\r', '\n', '<', ')', ';':
			p.pos++
		case '"':
			p.quoted()
		default:
			p.atom()
		}
	}
	p.emit(p.name, p.localPart(), p.hostOr(missingHost))
	p.reset()
}

// domain reads what follows an @: a name or an address literal.
func (p *addressParser) domain() {
	p.host = p.host[:0]
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; c {
		case ',', ';', '>', '<', ':', '"', '@':
			return
		case '(':
			if len(p.host) > 0 {
				return
			}
			p.skipComment(nil)
		case ' ', '\t', '\r', '\n':
			p.skipSpace()
			if n := len(p.host); n > 0 && p.host[n-1] != '.' && (p.pos == len(p.in) || p.in[p.pos] != '.') {
				return
			}
		case '[':
			end := bytes.IndexByte(p.in[p.pos:], ']')
			if end < 0 {
				end = len(p.in) - p.pos - 1
			}
			p.host = append(p.host, p.in[p.pos:p.pos+end+1]...)
			p.pos += end + 1
		default:
			p.host = append(p.host, c)
			p.pos++
		}
	}
}

func (p *addressParser) skipSpace() {
	for p.pos < len(p.in) && (p.in[p.pos] == ' ' || p.in[p.pos] == '\t' || p.in[p.pos] == '\r' || p.in[p.pos] == '\n') {
		p.pos++
	}
}

func (p *addressParser) atom() {
	p.space()
	start := p.pos
	for p.pos < len(p.in) && !endsAtom(p.in[p.pos]) {
		p.pos++
	}
	p.word = append(p.word, p.in[start:p.pos]...)
}

func endsAtom(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', '(', ')', '<', '>', ',', ';', ':', '@', '"':
		return true
	default:
		return false
	}
}

// quoted reads a quoted string without its quotes.
func (p *addressParser) quoted() {
	p.space()
	for p.pos++; p.pos < len(p.in); p.pos++ {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			return
		case c == '\\' && p.pos+1 < len(p.in):
			p.pos++
			p.word = append(p.word, p.in[p.pos])
		default:
			p.word = append(p.word, c)
		}
	}
}

// skipComment reads a comment, nested ones too, and appends its text to b.
func (p *addressParser) skipComment(b []byte) []byte {
	depth := 0
	for ; p.pos < len(p.in); p.pos++ {
		switch c := p.in[p.pos]; {
		case c == '(':
			if depth++; depth > 1 {
				b = append(b, c)
			}
		case c == ')':
			if depth--; depth == 0 {
				p.pos++
				return b
			}
			b = append(b, c)
		case c == '\\' && p.pos+1 < len(p.in):
			p.pos++
			b = append(b, p.in[p.pos])
		default:
			b = append(b, c)
		}
	}
	return b
}

func (p *addressParser) space() {
	if p.words > 0 {
		p.word = append(p.word, ' ')
	}
	p.words++
}

// localPart gives the words before the @: a single one as it is, several joined
// as the obsolete syntax allows.
func (p *addressParser) localPart() []byte {
	if p.words > 1 {
		p.word = bytes.ReplaceAll(p.word, []byte{' '}, nil)
	}
	if len(p.word) == 0 {
		return []byte(missingMailbox)
	}
	return p.word
}

func (p *addressParser) hostOr(missing string) []byte {
	if len(p.host) == 0 {
		return []byte(missing)
	}
	return p.host
}

func (p *addressParser) reset() {
	p.word, p.words, p.comment, p.host = p.word[:0], 0, p.comment[:0], p.host[:0]
}

// flush ends an address at a comma. Words without an @ are kept as a mailbox.
func (p *addressParser) flush() {
	if p.words > 0 {
		p.emit(p.comment, p.word, []byte(missingHost))
	}
	p.reset()
}

func (p *addressParser) endGroup() {
	if p.group {
		p.emit(nil, nil, nil)
	}
	p.group = false
}

// emit adds an address. The end of a group that began is always added.
func (p *addressParser) emit(name, mailbox, host []byte) {
	size := len(name) + len(mailbox) + len(host)
	if p.clipped = p.clipped || len(p.out)+size > maxAddresses; p.clipped && size > 0 {
		return
	}
	p.out = appendString(p.out, name)
	p.out = appendString(p.out, mailbox)
	p.out = appendString(p.out, host)
	p.n++
}
