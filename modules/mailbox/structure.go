package mailbox

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

// nodeKind tells what a part is, and with it what its compact form holds.
type nodeKind byte

const (
	kindOther     nodeKind = iota
	kindText               // with its lines
	kindMessage            // with its lines, envelope and the structure of the message
	kindMultipart          // with its parts
)

// node is a part of a message. The parser lists them in the order in which they
// begin, the parts of a part after it. Offsets are bytes from the message's
// begin.
type node struct {
	kind     nodeKind
	meta     [2]int // its header, in the arena
	envelope [2]int // of the message that it holds
	header   int64
	body     int64
	text     int64 // where the body of the message that it holds begins
	end      int64
	lines    int64
	children int
}

// appendStructure appends the compact form of the nodes, in their order.
func (p *parser) appendStructure(b []byte) []byte {
	for _, n := range p.nodes {
		b = append(b, byte(n.kind))
		b = append(b, p.arena[n.meta[0]:n.meta[1]]...)
		b = appendNumber(b, n.header)
		b = appendNumber(b, n.body-n.header)
		b = appendNumber(b, n.end-n.body)
		switch n.kind {
		case kindText:
			b = appendNumber(b, n.lines)
		case kindMessage:
			b = appendNumber(b, n.lines)
			b = appendNumber(b, n.text-n.body)
			b = appendString(b, p.arena[n.envelope[0]:n.envelope[1]])
		case kindMultipart:
			b = appendNumber(b, int64(n.children))
		case kindOther:
		}
	}
	return b
}

// part is the compact form of a node, taken apart. The parts of a message or
// multipart follow it in the reader.
type part struct {
	kind                      nodeKind
	main, sub                 string
	parameters                parameters
	id, description, encoding string
	disposition               string
	dispositionParameters     parameters
	language, location        string
	header, body, text, end   int64
	lines                     int64
	envelope                  string
	children                  int
}

// parameters is the compact form of a list of parameters.
type parameters struct {
	n    int
	list string
}

func (r *blobReader) parameters() parameters {
	n := r.count()
	begin := r.rest
	for range n {
		r.string()
		r.string()
	}
	return parameters{n, begin[:len(begin)-len(r.rest)]}
}

func (r *blobReader) part() part {
	var p part
	if len(r.rest) == 0 {
		return p
	}
	p.kind, r.rest = nodeKind(r.rest[0]), r.rest[1:]
	p.main, p.sub, p.parameters = r.string(), r.string(), r.parameters()
	p.id, p.description, p.encoding = r.string(), r.string(), r.string()
	p.disposition, p.dispositionParameters = r.string(), r.parameters()
	p.language, p.location = r.string(), r.string()
	p.header = r.number()
	p.body = p.header + r.number()
	p.end = p.body + r.number()
	switch p.kind {
	case kindText:
		p.lines = r.number()
	case kindMessage:
		p.lines = r.number()
		p.text = p.body + r.number()
		p.envelope = r.string()
		p.children = 1
	case kindMultipart:
		p.children = r.count()
	case kindOther:
	}
	return p
}

// skip reads over the parts of a part.
func (r *blobReader) skip(children int) {
	for ; children > 0 && r.rest != ""; children-- {
		children += r.part().children
	}
}

// find gives the part of that number in the message that begins here.
func (r *blobReader) find(path []int) (part, bool) {
	p := r.part()
	inMessage := true // p is the body of a message, not a part of a multipart
	for _, number := range path {
		if p.kind == kindMessage && !inMessage {
			p, inMessage = r.part(), true
		}
		switch {
		case p.kind == kindMultipart && number >= 1 && number <= p.children:
			for range number - 1 {
				r.skip(1)
			}
			p = r.part()
		case p.kind != kindMultipart && number == 1 && inMessage:
		default:
			return part{}, false
		}
		inMessage = false
	}
	return p, p.main != ""
}

// structure gives the structure that begins here, in go-imap's form.
func (r *blobReader) structure() imap.BodyStructure { return r.structureAt(0) }

func (r *blobReader) structureAt(depth int) imap.BodyStructure {
	if depth > maxMIMEDepth {
		r.rest = "" // no parser wrote this
	}
	p := r.part()
	if p.kind == kindMultipart {
		return r.multiPart(p, depth)
	}
	single := &imap.BodyStructureSinglePart{
		Type: p.main, Subtype: p.sub, Params: p.parameters.decode(),
		ID: p.id, Description: p.description, Encoding: p.encoding, Size: uint32(p.end - p.body),
		Extended: &imap.BodyStructureSinglePartExt{
			Disposition: p.decodeDisposition(), Language: p.languages(), Location: p.location,
		},
	}
	switch p.kind {
	case kindText:
		single.Text = &imap.BodyStructureText{NumLines: p.lines}
	case kindMessage:
		single.MessageRFC822 = &imap.BodyStructureMessageRFC822{
			Envelope:      readEnvelope(p.envelope).decode(),
			BodyStructure: r.structureAt(depth + 1),
			NumLines:      p.lines,
		}
	case kindOther, kindMultipart:
	}
	return single
}

func (r *blobReader) multiPart(p part, depth int) *imap.BodyStructureMultiPart {
	multi := &imap.BodyStructureMultiPart{
		Subtype: p.sub,
		Extended: &imap.BodyStructureMultiPartExt{
			Params: p.parameters.decode(), Disposition: p.decodeDisposition(), Language: p.languages(), Location: p.location,
		},
	}
	for range p.children {
		if r.rest == "" {
			break
		}
		multi.Children = append(multi.Children, r.structureAt(depth+1))
	}
	return multi
}

func (p parameters) decode() map[string]string {
	if p.n == 0 {
		return nil
	}
	m := make(map[string]string, p.n)
	r := blobReader{p.list}
	for range p.n {
		attribute, value := r.string(), r.string()
		if _, ok := m[attribute]; !ok {
			m[attribute] = value
		}
	}
	return m
}

// find gives the value of a parameter, "" if it is absent.
func (p parameters) find(attribute string) string {
	r := blobReader{p.list}
	for range p.n {
		if name, value := r.string(), r.string(); name == attribute {
			return value
		}
	}
	return ""
}

func (p *part) decodeDisposition() *imap.BodyStructureDisposition {
	if p.disposition == "" {
		return nil
	}
	return &imap.BodyStructureDisposition{Value: p.disposition, Params: p.dispositionParameters.decode()}
}

func (p *part) languages() []string {
	var list []string
	for tag := range strings.SplitSeq(p.language, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			list = append(list, tag)
		}
	}
	return list
}
