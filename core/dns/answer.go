package dns

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/mox-like/mox-like/core/mail"
)

const (
	// maxAliases is how many CNAME records are followed.
	maxAliases = 16
	// maxNegativeTTL bounds how long an absence is remembered (RFC 2308 section 5).
	maxNegativeTTL = time.Hour
	// maxDetail bounds the text that a server gives with an error.
	maxDetail = 200
)

// readReply makes a result of a server's reply, with the time for which it
// holds, 0 if it must not be kept. An error means that the server has no answer;
// another may have.
func readReply(m *miekg.Msg, q question, server Server, s *Settings) (result, time.Duration, error) {
	if m.Rcode != miekg.RcodeSuccess && m.Rcode != miekg.RcodeNameError {
		return result{}, 0, fmt.Errorf("it answers %s", describe(m))
	}
	answer, ttl, err := collect(m.Answer, q)
	if err != nil {
		return result{}, 0, err
	}
	if answer.empty() || m.Rcode == miekg.RcodeNameError {
		missing := &Error{Name: q.name, Type: q.typ, Server: server.String(), Kind: ErrNotFound, NXDomain: m.Rcode == miekg.RcodeNameError}
		return result{err: missing}, min(negativeTTL(m.Ns), ttl, s.MaxTTL), nil
	}
	answer.TTL = min(ttl, s.MaxTTL)
	answer.Authentic = m.AuthenticatedData && s.trusts(server)
	return result{answer: answer}, answer.TTL, nil
}

// describe gives the code of a reply and what the server says about it (RFC
// 8914).
func describe(m *miekg.Msg) string {
	code, ok := miekg.RcodeToString[m.Rcode]
	if !ok {
		code = fmt.Sprintf("RCODE %d", m.Rcode)
	}
	opt := m.IsEdns0()
	if opt == nil {
		return code
	}
	for _, option := range opt.Option {
		if e, ok := option.(*miekg.EDNS0_EDE); ok {
			detail := miekg.ExtendedErrorCodeToString[e.InfoCode]
			if e.ExtraText != "" {
				detail = strings.TrimPrefix(detail+": "+e.ExtraText, ": ")
			}
			return code + " (" + mail.Printable(detail, maxDetail) + ")"
		}
	}
	return code
}

// collect follows the CNAME records from the name of the question (RFC 1034
// section 3.6.2) and takes the records at their end. The time is the least of
// the records on the way.
func collect(records []miekg.RR, q question) (Answer, time.Duration, error) {
	name := q.name
	ttl := time.Duration(1<<31-1) * time.Second
	for range maxAliases + 1 {
		answer := Answer{Name: strings.TrimSuffix(name, ".")}
		alias := ""
		for _, rr := range records {
			h := rr.Header()
			if h.Class != miekg.ClassINET || !strings.EqualFold(strings.TrimSuffix(h.Name, "."), answer.Name) {
				continue
			}
			cname, isAlias := rr.(*miekg.CNAME)
			switch {
			case h.Rrtype == uint16(q.typ):
				answer.add(rr)
				ttl = min(ttl, duration(h.Ttl))
			case isAlias && alias == "":
				alias = cname.Target
				ttl = min(ttl, duration(h.Ttl))
			}
		}
		if !answer.empty() || alias == "" {
			slices.SortStableFunc(answer.Exchangers, func(a, b net.MX) int { return int(a.Pref) - int(b.Pref) })
			return answer, ttl, nil
		}
		name = alias
	}
	return Answer{}, 0, fmt.Errorf("it answers with a chain of more than %d CNAME records", maxAliases)
}

// add takes over one record.
func (a *Answer) add(rr miekg.RR) {
	switch rr := rr.(type) {
	case *miekg.A:
		if addr, ok := netip.AddrFromSlice(rr.A.To4()); ok {
			a.Addrs = append(a.Addrs, addr)
		}
	case *miekg.AAAA:
		if addr, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
			a.Addrs = append(a.Addrs, addr)
		}
	case *miekg.TXT:
		a.Texts = append(a.Texts, unescape(strings.Join(rr.Txt, "")))
	case *miekg.MX:
		a.Exchangers = append(a.Exchangers, net.MX{Host: host(rr.Mx), Pref: rr.Preference})
	case *miekg.PTR:
		a.Names = append(a.Names, host(rr.Ptr))
	case *miekg.NS:
		a.Names = append(a.Names, host(rr.Ns))
	case *miekg.CNAME:
		a.Names = append(a.Names, host(rr.Target))
	case *miekg.TLSA:
		if data, err := hex.DecodeString(rr.Certificate); err == nil {
			a.TLSA = append(a.TLSA, TLSA{Usage: rr.Usage, Selector: rr.Selector, MatchingType: rr.MatchingType, Data: data})
		}
	case *miekg.SOA:
		a.SOA = &SOA{PrimaryServer: host(rr.Ns), Mailbox: host(rr.Mbox), Serial: rr.Serial, Minimum: duration(rr.Minttl)}
	}
}

// empty tells whether there is no record.
func (a *Answer) empty() bool {
	return len(a.Addrs)+len(a.Texts)+len(a.Exchangers)+len(a.Names)+len(a.TLSA) == 0 && a.SOA == nil
}

// host gives a name without its last dot; the root stays a dot.
func host(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// unescape gives the bytes of a text that is written as in a zone file (RFC 1035
// section 5.1).
func unescape(text string) string {
	if strings.IndexByte(text, '\\') < 0 {
		return text
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			i++
			if c = text[i]; c >= '0' && c <= '9' && i+2 < len(text) {
				c = (text[i]-'0')*100 + (text[i+1]-'0')*10 + text[i+2] - '0'
				i += 2
			}
		}
		b = append(b, c)
	}
	return string(b)
}

// negativeTTL is for how long an absence may be remembered: what the zone's SOA
// record says in the reply, and not at all without one (RFC 2308 section 5).
func negativeTTL(authority []miekg.RR) time.Duration {
	for _, rr := range authority {
		if soa, ok := rr.(*miekg.SOA); ok {
			return min(duration(soa.Hdr.Ttl), duration(soa.Minttl), maxNegativeTTL)
		}
	}
	return 0
}

// duration reads a TTL; with the highest bit set it is 0 (RFC 2181 section 8).
func duration(seconds uint32) time.Duration {
	if seconds > 1<<31-1 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
