package spf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/mox-like/mox-like/core/dns"
)

// scenario is a document of the test suite.
type scenario struct {
	Description string               `yaml:"description"`
	Tests       map[string]suiteTest `yaml:"tests"`
	ZoneData    map[string]yaml.Node `yaml:"zonedata"`
}

type suiteTest struct {
	Helo        string  `yaml:"helo"`
	Host        string  `yaml:"host"`
	MailFrom    string  `yaml:"mailfrom"`
	Result      results `yaml:"result"`
	Explanation string  `yaml:"explanation"`
}

// results is one result, or several of which any will do.
type results []Result

func (rs *results) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*rs = results{Result(n.Value)}
		return nil
	}
	return n.Decode((*[]Result)(rs))
}

// zone is a DNS in memory: names in lower case without the last dot, and their
// records in order.
type zone map[string][]zoneRecord

// zoneRecord is one record; without a kind it is a question that nobody answers.
type zoneRecord struct {
	kind, data string
	preference uint16
}

var errSilence = fmt.Errorf("no answer in time: %w", dns.ErrTemporary)

// find gives the records of a name, following CNAMEs.
func (z zone) find(name, kind string) ([]zoneRecord, error) {
	for range 8 {
		var found []zoneRecord
		alias := ""
		for _, r := range z[strings.TrimSuffix(strings.ToLower(name), ".")] {
			switch r.kind {
			case kind:
				found = append(found, r)
			case "CNAME":
				alias = r.data
			case "":
				if len(found) == 0 {
					return nil, errSilence
				}
			}
		}
		switch {
		case len(found) > 0:
			return found, nil
		case alias == "":
			return nil, fmt.Errorf("look up %s: %w", name, dns.ErrNotFound)
		}
		name = alias
	}
	return nil, fmt.Errorf("look up %s: too many aliases: %w", name, dns.ErrTemporary)
}

func (z zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	records, err := z.find(name, "TXT")
	var texts []string
	for _, r := range records {
		texts = append(texts, r.data)
	}
	return texts, err
}

func (z zone) LookupIP(_ context.Context, network, name string) ([]netip.Addr, error) {
	records, err := z.find(name, map[string]string{"ip4": "A", "ip6": "AAAA"}[network])
	var addrs []netip.Addr
	for _, r := range records {
		addrs = append(addrs, netip.MustParseAddr(r.data))
	}
	return addrs, err
}

func (z zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	records, err := z.find(name, "MX")
	var hosts []*net.MX
	for _, r := range records {
		hosts = append(hosts, &net.MX{Host: r.data, Pref: r.preference})
	}
	return hosts, err
}

func (z zone) LookupAddr(_ context.Context, addr netip.Addr) ([]string, error) {
	arpa := expand("%{ir}.%{v}.arpa", func(letter byte) string {
		return (&Query{IP: addr}).value(letter, "", nil)
	})
	records, err := z.find(arpa, "PTR")
	var names []string
	for _, r := range records {
		names = append(names, strings.TrimSuffix(r.data, "."))
	}
	return names, err
}

// zone reads the zone data. Records of the type SPF, which nobody asks for any
// more, stand for TXT records of a name that has none of its own.
func (s *scenario) zone() (zone, error) {
	z := make(zone)
	for name, node := range s.ZoneData {
		var entries []yaml.Node
		if err := node.Decode(&entries); err != nil {
			return nil, err
		}
		var own, copies []zoneRecord
		hasTXT := false
		for _, entry := range entries {
			if entry.Kind == yaml.ScalarNode {
				own = append(own, zoneRecord{})
				continue
			}
			kind := entry.Content[0].Value
			r, err := readRecord(kind, entry.Content[1])
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", kind, name, err)
			}
			switch {
			case kind == "SPF":
				r.kind = "TXT"
				copies = append(copies, r)
			case kind == "TXT" && r.data == "NONE":
				hasTXT = true
			default:
				hasTXT = hasTXT || kind == "TXT"
				own = append(own, r)
			}
		}
		if !hasTXT {
			own = append(copies, own...)
		}
		z[strings.TrimSuffix(strings.ToLower(name), ".")] = own
	}
	return z, nil
}

func readRecord(kind string, value *yaml.Node) (zoneRecord, error) {
	r := zoneRecord{kind: kind}
	switch {
	case kind == "MX":
		r.data = value.Content[1].Value
		return r, value.Content[0].Decode(&r.preference)
	case value.Kind == yaml.SequenceNode:
		var parts []string
		err := value.Decode(&parts)
		r.data = strings.Join(parts, "")
		return r, err
	default:
		r.data = value.Value
		return r, nil
	}
}

func readSuite(tb testing.TB) []scenario {
	tb.Helper()
	f, err := os.Open("testdata/rfc7208-tests.yml")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var scenarios []scenario
	for d := yaml.NewDecoder(f); ; {
		var s scenario
		switch err := d.Decode(&s); {
		case errors.Is(err, io.EOF):
			return scenarios
		case err != nil:
			tb.Fatal(err)
		}
		scenarios = append(scenarios, s)
	}
}

func (t suiteTest) query() Query {
	q := Query{
		IP: netip.MustParseAddr(t.Host), Helo: t.Helo, Domain: t.Helo,
		Receiver: "mx.example.test", Now: time.Unix(1_800_000_000, 0),
	}
	if t.MailFrom != "" {
		at := strings.LastIndexByte(t.MailFrom, '@')
		q.LocalPart, q.Domain = t.MailFrom[:at], t.MailFrom[at+1:]
	}
	return q
}

// TestSuite runs the test suite of RFC 7208, all of it.
func TestSuite(t *testing.T) {
	t.Parallel()
	count := 0
	for _, s := range readSuite(t) {
		z, err := s.zone()
		if err != nil {
			t.Fatal(err)
		}
		for name, test := range s.Tests {
			count++
			t.Run(s.Description+"/"+name, func(t *testing.T) {
				t.Parallel()
				runSuiteTest(t, z, test)
			})
		}
	}
	if count != 203 {
		t.Errorf("the suite has %d tests, not 203", count)
	}
}

func runSuiteTest(t *testing.T, r resolver, test suiteTest) {
	t.Helper()
	got := check(t.Context(), r, test.query())
	if !slices.Contains(test.Result, got.Result) {
		t.Errorf("got %+v, want %v", got, test.Result)
	}
	want := test.Explanation
	if want == "DEFAULT" {
		want = ""
	}
	if test.Explanation != "" && got.Explanation != want {
		t.Errorf("explanation %q, want %q", got.Explanation, want)
	}
}
