// Package zone answers questions from the text of a zone file (RFC 1035 section 5):
// for tests, and for messages that are tried with a DNS of their own.
package zone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	miekg "github.com/miekg/dns"
)

const (
	defaultTTL = 300
	// negativeTTL is for how long an absence may be remembered where the zone does
	// not say it.
	negativeTTL = 60
	// maxAliases bounds how many CNAME records are followed; a longer chain is
	// answered as far as it goes, as a loop is.
	maxAliases = 40
	// maxRecords, maxNames and maxBytes bound what is kept: the records, the names
	// with all that stand above them, and the records' sizes on the wire together. A
	// record of a few characters has a long name behind a long $ORIGIN.
	maxRecords = 100_000
	maxNames   = 200_000
	maxBytes   = 16 << 20
)

// errGenerate is returned for the one directive that makes many records of one line.
var errGenerate = errors.New("it has $GENERATE, which is not taken here: write the records out")

// Zone is what a server knows. It is not changed, and safe for concurrent use.
type Zone struct {
	records map[string][]miekg.RR
	// exists holds the names and all that stand above them.
	exists map[string]bool
}

// Parse reads the text of a zone file. Names are relative to the root unless the
// text has an $ORIGIN, and records without a TTL hold for five minutes. Other files
// are not included, and records are not generated. What a text can make it keep is
// bounded, and it ends when ctx does.
func Parse(ctx context.Context, text string) (*Zone, error) {
	if generates(text) {
		return nil, errGenerate
	}
	z := &Zone{records: make(map[string][]miekg.RR), exists: make(map[string]bool)}
	parser := miekg.NewZoneParser(&reader{ended: ctx.Err, text: strings.NewReader(text)}, ".", "")
	parser.SetDefaultTTL(defaultTTL)
	records, size := 0, 0
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		records++
		size += miekg.Len(rr)
		z.add(rr)
		switch {
		case records > maxRecords:
			return nil, fmt.Errorf("it has more than %d records", maxRecords)
		case len(z.exists) > maxNames:
			return nil, fmt.Errorf("it has more than %d names, with those above them", maxNames)
		case size > maxBytes:
			return nil, fmt.Errorf("its records have more than %d bytes", maxBytes)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return z, parser.Err()
}

func (z *Zone) add(rr miekg.RR) {
	name := Fold(rr.Header().Name)
	z.records[name] = append(z.records[name], rr)
	for above := name; !z.exists[above]; above = parent(above) {
		z.exists[above] = true
	}
}

// generates tells whether a text may have $GENERATE, however it is written: the
// parser skips some characters within words.
func generates(text string) bool {
	text = strings.Map(func(r rune) rune {
		if r == '\r' || r == '(' || r == ')' {
			return -1
		}
		return r
	}, text)
	return strings.Contains(strings.ToUpper(text), "$GENERATE")
}

// reader gives a text in small pieces, until it is told that nobody wants it any
// more.
type reader struct {
	ended func() error
	text  io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ended(); err != nil {
		return 0, err
	}
	return r.text.Read(p[:min(len(p), 4<<10)])
}

// Fold gives the form in which names are compared: that of the wire, in lower
// case, without the last dot.
func Fold(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

// parent gives the name above, "" for the root.
func parent(name string) string {
	if i, end := miekg.NextLabel(name, 0); !end {
		return name[i:]
	}
	return ""
}

// Fill answers the question of a reply. A name that is not in the zone does not
// exist.
func (z *Zone) Fill(reply *miekg.Msg) {
	q := reply.Question[0]
	name := q.Name
	for range maxAliases {
		records, exists := z.find(name)
		target := ""
		found := false
		for _, rr := range records {
			switch cname, isAlias := rr.(*miekg.CNAME); {
			case rr.Header().Rrtype == q.Qtype || q.Qtype == miekg.TypeANY:
				found = true
			case isAlias:
				target = cname.Target
			default:
				continue
			}
			rr = miekg.Copy(rr)
			rr.Header().Name = name
			reply.Answer = append(reply.Answer, rr)
		}
		if found {
			return
		}
		if target == "" {
			if !exists {
				reply.Rcode = miekg.RcodeNameError
			}
			reply.Ns = append(reply.Ns, z.authority(name))
			return
		}
		name = target
	}
}

// find gives the records of a name, or those of the wildcard next above (RFC
// 4592).
func (z *Zone) find(name string) (records []miekg.RR, exists bool) {
	name = Fold(name)
	if z.exists[name] {
		return z.records[name], true
	}
	for above := parent(name); ; above = parent(above) {
		if records := z.records[strings.TrimSuffix("*."+above, ".")]; records != nil {
			return records, true
		}
		if above == "" || z.exists[above] {
			return nil, false
		}
	}
}

// authority gives the SOA record of the zone in which a name is missing.
func (z *Zone) authority(name string) miekg.RR {
	for above := Fold(name); ; above = parent(above) {
		for _, rr := range z.records[above] {
			if soa, ok := rr.(*miekg.SOA); ok {
				return soa
			}
		}
		if above == "" {
			break
		}
	}
	return &miekg.SOA{
		Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeSOA, Class: miekg.ClassINET, Ttl: negativeTTL},
		Ns:  "ns.invalid.", Mbox: "hostmaster.invalid.", Serial: 1, Minttl: negativeTTL,
	}
}
