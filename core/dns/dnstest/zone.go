package dnstest

import (
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
)

// zone is what a server knows. It is not changed.
type zone struct {
	records map[string][]miekg.RR
	// exists holds the names and all that stand above them.
	exists map[string]bool
}

func parseZone(text string) (*zone, error) {
	z := &zone{records: make(map[string][]miekg.RR), exists: make(map[string]bool)}
	parser := miekg.NewZoneParser(strings.NewReader(text), ".", "")
	parser.SetDefaultTTL(defaultTTL)
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		name := fold(rr.Header().Name)
		z.records[name] = append(z.records[name], rr)
		for above := name; !z.exists[above]; above = parent(above) {
			z.exists[above] = true
		}
	}
	return z, parser.Err()
}

// parent gives the name above, "" for the root.
func parent(name string) string {
	if i, end := miekg.NextLabel(name, 0); !end {
		return name[i:]
	}
	return ""
}

// fill answers the question of a reply.
func (z *zone) fill(reply *miekg.Msg) {
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
func (z *zone) find(name string) (records []miekg.RR, exists bool) {
	name = fold(name)
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
func (z *zone) authority(name string) miekg.RR {
	for above := fold(name); ; above = parent(above) {
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
		Ns:  "ns.example.test.", Mbox: "hostmaster.example.test.", Serial: 1, Minttl: negativeTTL,
	}
}
