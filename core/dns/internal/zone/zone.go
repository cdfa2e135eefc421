// Package zone answers questions from the text of a zone file (RFC 1035 section 5):
// for tests, and for messages that are tried with a DNS of their own.
package zone

import (
	"fmt"
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
	// maxRecords bounds the records, since one line can stand for many ($GENERATE).
	maxRecords = 200_000
)

// Zone is what a server knows. It is not changed, and safe for concurrent use.
type Zone struct {
	records map[string][]miekg.RR
	// exists holds the names and all that stand above them.
	exists map[string]bool
}

// Parse reads the text of a zone file. Names are relative to the root unless the
// text has an $ORIGIN, and records without a TTL hold for five minutes. Other files
// are not included.
func Parse(text string) (*Zone, error) {
	z := &Zone{records: make(map[string][]miekg.RR), exists: make(map[string]bool)}
	parser := miekg.NewZoneParser(strings.NewReader(text), ".", "")
	parser.SetDefaultTTL(defaultTTL)
	n := 0
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		if n++; n > maxRecords {
			return nil, fmt.Errorf("it has more than %d records", maxRecords)
		}
		name := Fold(rr.Header().Name)
		z.records[name] = append(z.records[name], rr)
		for above := name; !z.exists[above]; above = parent(above) {
			z.exists[above] = true
		}
	}
	return z, parser.Err()
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
