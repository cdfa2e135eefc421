package dns

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

func FuzzReply(f *testing.F) {
	q := question{"example.org", TypeTXT}
	server := Server{netip.MustParseAddrPort("192.0.2.53:53")}
	query := newQuery(q, true)
	query.Id = 1
	for _, text := range []string{
		`example.org. 300 IN TXT "v=spf1 -all" "\195\188"`,
		"example.org. 300 IN CNAME www.example.org.",
		"example.org. 300 IN MX 0 .",
		"example.org. 300 IN SOA ns.example.org. hostmaster.example.org. 1 2 3 4 5",
	} {
		rr, err := miekg.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		reply := new(miekg.Msg).SetReply(query)
		reply.Answer, reply.Ns = []miekg.RR{rr, rr}, []miekg.RR{rr}
		packet, err := reply.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
		f.Add(packet[:len(packet)/2])
	}
	// Names that point at themselves, and counts that lie.
	f.Add([]byte("\x00\x01\x81\x80\x00\x01\xff\xff\x00\x00\x00\x00\xc0\x0c\x00\x10\x00\x01\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x02\x01a"))
	s := (Settings{}).withDefaults()
	f.Fuzz(func(t *testing.T, packet []byte) {
		reply, err := parseReply(packet, query)
		if err != nil {
			return
		}
		if reply.Id != query.Id || !reply.Response {
			t.Fatal("another message is taken for the answer")
		}
		res, ttl, err := readReply(reply, q, server, s)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
				t.Errorf("the error %q cannot be printed", err)
			}
			return
		}
		if ttl < 0 || ttl > s.MaxTTL {
			t.Errorf("the answer holds for %s", ttl)
		}
		if (res.err == nil) == res.answer.empty() {
			t.Errorf("answer %+v with the error %v", res.answer, res.err)
		}
		if res.answer.size() > 1<<20 {
			t.Errorf("an answer of %d bytes takes %d", len(packet), res.answer.size())
		}
	})
}

func FuzzCanonical(f *testing.F) {
	for _, name := range []string{"example.org", "A.Example.ORG.", "bücher.example", `a\b"c@d;(e) .example`, "_dmarc.example.org", "a..b", "\x00.x", "%{i}._spf.example.org", "*.example.org", "１．example"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		host, err := canonical(name)
		if err != nil {
			return
		}
		// What can be sent comes back as the same question.
		packet, err := newQuery(question{host, TypeA}, true).Pack()
		if err != nil {
			t.Fatalf("%q as %q cannot be sent: %v", name, host, err)
		}
		m := new(miekg.Msg)
		if err := m.Unpack(packet); err != nil {
			t.Fatal(err)
		}
		if got := m.Question[0].Name; got != host+"." {
			t.Errorf("%q is sent as %q and comes back as %q", name, host, got)
		}
	})
}

func TestCacheHoldsFewerLargeAnswers(t *testing.T) {
	t.Parallel()
	c := newCache(100)
	now := time.Now()
	large := &result{answer: Answer{Texts: []string{strings.Repeat("x", 10*entrySize)}}}
	for i := range 100 {
		c.put(question{strings.Repeat("a", i+1), TypeTXT}, large, now.Add(time.Hour))
	}
	if n := c.len(); n < 5 || n > 10 {
		t.Errorf("the cache holds %d answers of 10 KiB, with room for 100 KiB", n)
	}
	c.put(question{"huge", TypeTXT}, &result{answer: Answer{Texts: []string{strings.Repeat("x", 101*entrySize)}}}, now.Add(time.Hour))
	if c.len() != 0 || c.size != 0 {
		t.Errorf("the cache holds %d answers of %d bytes after one that is larger than it", c.len(), c.size)
	}
}

func TestReverseName(t *testing.T) {
	t.Parallel()
	tests := []struct{ addr, zone, want string }{
		{"192.0.2.1", "", "1.2.0.192.in-addr.arpa"},
		{"::ffff:192.0.2.1", "zen.example.net", "1.2.0.192.zen.example.net"},
		{"2001:db8::1", "zen.example.net", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.example.net"},
	}
	for _, tt := range tests {
		if got := ReverseName(netip.MustParseAddr(tt.addr), tt.zone); got != tt.want {
			t.Errorf("%s in %q: %s, want %s", tt.addr, tt.zone, got, tt.want)
		}
	}
}

func TestManyAliases(t *testing.T) {
	t.Parallel()
	chain := func(n int) []miekg.RR {
		var list []miekg.RR
		name := "example.org."
		for range n {
			next := "a." + name
			list = append(list, &miekg.CNAME{Hdr: miekg.RR_Header{Name: name, Rrtype: miekg.TypeCNAME, Class: miekg.ClassINET, Ttl: 60}, Target: next})
			name = next
		}
		return append(list, &miekg.A{Hdr: miekg.RR_Header{Name: name, Rrtype: miekg.TypeA, Class: miekg.ClassINET, Ttl: 60}, A: []byte{192, 0, 2, 1}})
	}
	q := question{"example.org", TypeA}
	if a, _, err := collect(chain(maxAliases), q); err != nil || len(a.Addrs) != 1 {
		t.Errorf("%d aliases: answer %+v, error %v", maxAliases, a, err)
	}
	if _, _, err := collect(chain(maxAliases+1), q); err == nil {
		t.Errorf("%d aliases are followed", maxAliases+1)
	}
}
