package mailbox

import "bytes"

// contentFields are the fields of a MIME header (RFC 2045), as they came but
// unfolded.
type contentFields struct {
	contentType, encoding, id, description, disposition, language, location []byte
}

func (c *contentFields) field(name string) *[]byte {
	switch name {
	case "content-type":
		return &c.contentType
	case "content-transfer-encoding":
		return &c.encoding
	case "content-id":
		return &c.id
	case "content-description":
		return &c.description
	case "content-disposition":
		return &c.disposition
	case "content-language":
		return &c.language
	case "content-location":
		return &c.location
	default:
		return nil
	}
}

// scanHead finds the known fields in head. The first of a name counts. The
// values share head's memory, whose folds are taken out in place.
func (p *parser) scanHead(isMessage bool) {
	p.content = contentFields{}
	if isMessage {
		p.fields = envelopeFields{}
	}
	for rest := p.head; len(rest) > 0; {
		end := fieldEnd(rest)
		field := rest[:end]
		rest = rest[end:]
		colon := bytes.IndexByte(field, ':')
		if colon <= 0 {
			continue
		}
		var buffer [32]byte
		name := lower(buffer[:0], bytes.TrimRight(field[:colon], " \t"))
		place := p.content.field(string(name))
		if place == nil && isMessage {
			place = p.fields.field(string(name))
		}
		if place != nil && *place == nil {
			*place = unfold(field[colon+1:])
		}
	}
}

// fieldEnd gives the length of the field that head begins with, with its folds.
func fieldEnd(head []byte) int {
	end := 0
	for {
		i := bytes.IndexByte(head[end:], '\n')
		if i < 0 {
			return len(head)
		}
		end += i + 1
		if end == len(head) || head[end] != ' ' && head[end] != '\t' {
			return end
		}
	}
}

// lower appends s in lower case, unless it is longer than b's room: then it is
// no name that anybody looks for.
func lower(b, s []byte) []byte {
	if len(s) > cap(b) {
		return b
	}
	for _, c := range s {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// contentType is the value of a Content-Type field. The slices share the
// header's memory.
type contentType struct {
	kind          nodeKind
	main, sub     string
	parameters    []byte
	digest        bool
	defaultByRule bool // there is no field: text/plain in US-ASCII
}

var plainText = contentType{kind: kindText, main: "text", sub: "plain"}

// contentType reads the Content-Type of the header that was scanned. Without
// one, and with one that is broken, it is text/plain (RFC 2045 section 5.2);
// without one within a digest it is message/rfc822 (RFC 2046 section 5.1.5).
func (p *parser) contentType(inDigest bool) contentType {
	value := p.content.contentType
	if len(value) == 0 {
		if inDigest {
			return contentType{kind: kindMessage, main: "message", sub: "rfc822"}
		}
		absent := plainText
		absent.defaultByRule = true
		return absent
	}
	whole, parameters, _ := bytes.Cut(value, []byte{';'})
	main, sub, ok := bytes.Cut(whole, []byte{'/'})
	main, sub = firstToken(main), firstToken(sub)
	if !ok || len(main) == 0 || len(sub) == 0 {
		return plainText
	}
	t := contentType{main: mediaName(main), sub: mediaName(sub), parameters: parameters}
	switch {
	case t.main == "text":
		t.kind = kindText
	case t.main == "multipart":
		t.kind = kindMultipart
		t.digest = t.sub == "digest"
	case t.main == "message" && (t.sub == "rfc822" || t.sub == "global"):
		t.kind = kindMessage
	}
	return t
}

// mediaNames spare the common names an allocation.
var mediaNames = map[string]string{
	"text": "text", "plain": "plain", "html": "html", "multipart": "multipart", "mixed": "mixed", "alternative": "alternative",
	"related": "related", "signed": "signed", "report": "report", "application": "application", "pdf": "pdf", "octet-stream": "octet-stream",
	"image": "image", "jpeg": "jpeg", "png": "png", "gif": "gif", "message": "message", "rfc822": "rfc822", "calendar": "calendar",
}

func mediaName(name []byte) string {
	var buffer [64]byte
	low := lower(buffer[:0], name)
	if len(low) != len(name) {
		return "x-unknown"
	}
	if known, ok := mediaNames[string(low)]; ok {
		return known
	}
	return string(low)
}

// firstToken gives the first token (RFC 2045 section 5.1), without the comments
// and the white space around it.
func firstToken(s []byte) []byte {
	s = skipCFWS(s)
	for i, c := range s {
		if !isTokenChar(c) {
			return s[:i]
		}
	}
	return s
}

func skipCFWS(s []byte) []byte {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			i++
		case depth == 0 && c != ' ' && c != '\t':
			return s[i:]
		}
	}
	return nil
}

func isTokenChar(c byte) bool {
	return c > ' ' && c < 0x7f && bytes.IndexByte([]byte(`()<>@,;:\"/[]?=`), c) < 0
}

// nextParameter reads attribute=value from s; rest is nil at the end. The value
// is in the scratch buffer when it was quoted.
func (p *parser) nextParameter(s []byte) (attribute, value, rest []byte) {
	for len(s) > 0 {
		s = skipCFWS(s)
		if len(s) > 0 && s[0] == ';' {
			s = s[1:]
			continue
		}
		attribute = firstToken(s)
		after := skipCFWS(s[len(attribute):])
		if len(attribute) == 0 || len(after) == 0 || after[0] != '=' {
			// What was skipped is not looked at again, so that the time is linear.
			_, s, _ = bytes.Cut(after, []byte{';'})
			continue
		}
		value, rest = p.parameterValue(skipCFWS(after[1:]))
		return attribute, value, rest
	}
	return nil, nil, nil
}

// parameterValue reads a token or quoted string. A token goes on to the next
// semicolon or white space, since many who write spaces and slashes forget the
// quotes.
func (p *parser) parameterValue(s []byte) (value, rest []byte) {
	if len(s) == 0 || s[0] != '"' {
		end := bytes.IndexAny(s, "; \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:]
	}
	p.scratch = p.scratch[:0]
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return p.scratch, s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		p.scratch = append(p.scratch, s[i])
	}
	return p.scratch, nil
}

// parameter finds one parameter; the value is valid until the next is read.
func (p *parser) parameter(s []byte, name string) []byte {
	for len(s) > 0 {
		var attribute, value []byte
		if attribute, value, s = p.nextParameter(s); len(attribute) == len(name) && bytes.EqualFold(attribute, []byte(name)) {
			return value
		}
	}
	return nil
}

// appendParameters appends the number of parameters, in one byte, and each
// attribute in lower case with its value.
func (p *parser) appendParameters(s []byte) {
	at := len(p.arena)
	p.arena = append(p.arena, 0)
	for len(s) > 0 && p.arena[at] < maxParameters && !p.full() {
		var attribute, value []byte
		attribute, value, s = p.nextParameter(s)
		if len(attribute) == 0 {
			return
		}
		var buffer [64]byte
		if low := lower(buffer[:0], attribute); len(low) == len(attribute) {
			attribute = low
		}
		p.appendValue(attribute)
		p.appendValue(value)
		p.arena[at]++
	}
}

// full tells whether the structure is as large as it may become. What follows is
// kept without parameters and long values.
func (p *parser) full() bool { return len(p.arena) > maxStructure }

func (p *parser) appendValue(value []byte) {
	if p.full() && len(value) > 64 {
		value = nil
	}
	p.arena = appendString(p.arena, clip(value))
}

// appendMeta appends what a part's header says, see readMeta.
func (p *parser) appendMeta(t contentType) {
	c := &p.content
	p.arena = appendString(p.arena, t.main)
	p.arena = appendString(p.arena, t.sub)
	if t.defaultByRule {
		p.arena = append(p.arena, 1)
		p.arena = appendString(p.arena, "charset")
		p.arena = appendString(p.arena, "us-ascii")
	} else {
		p.appendParameters(t.parameters)
	}
	p.appendValue(c.id)
	p.appendValue(c.description)
	p.appendValue(firstToken(c.encoding))
	disposition, parameters, _ := bytes.Cut(c.disposition, []byte{';'})
	p.appendValue(firstToken(disposition))
	p.appendParameters(parameters)
	p.appendValue(c.language)
	p.appendValue(c.location)
}
