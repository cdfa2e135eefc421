package dnsbl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/mail"
)

// The kinds of lists.
const (
	kindIP    = "ip"
	kindHelo  = "helo"
	kindFrom  = "from"
	kindAllow = "allow"
)

// List is one list in the DNS.
type List struct {
	// Zone is the list's name in the DNS.
	Zone string `config:"zone,label"`
	// Kind says what the list has, and so what it is asked about: ip, addresses that
	// send unwanted mail; helo, domains, asked about the name in HELO; from,
	// domains, asked about that of the reverse-path; allow, addresses that send
	// wanted mail.
	Kind string `config:"kind" default:"ip" values:"ip,helo,from,allow"`
	// Weight is what a listing adds to the sum, or in an allow list subtracts.
	Weight float64 `config:"weight" default:"1" min:"0" max:"100000"`
	// Codes are the answers that count: addresses or networks in 127.0.0.0/8, or
	// addresses in which a star stands for any number, such as "127.0.*.3". Without
	// any every answer counts that is no error.
	Codes []Code `config:"codes" example:"127.0.0.2,127.0.0.4/30"`
	// Weights gives codes weights of their own, such as { "127.0.0.10" = 0.5 }. Of
	// several that match, the one that says most counts. If a list answers with
	// several codes, the greatest weight counts.
	Weights map[string]float64 `config:"weights"`
}

// Code is what a list's answers are held against.
type Code struct {
	text        string
	value, mask uint32
}

// loopback is where the answers of lists are (RFC 5782 section 2.1), and
// errorCodes where many have those that mean that the question was refused.
var (
	loopback   = netip.MustParsePrefix("127.0.0.0/8")
	errorCodes = netip.MustParsePrefix("127.255.255.0/24")
)

// UnmarshalText reads an address, a network, or an address with stars.
func (c *Code) UnmarshalText(text []byte) error {
	parsed, ok := parseCode(string(text))
	if !ok {
		return fmt.Errorf("%q is no code of a list: write an address or a network in 127.0.0.0/8, such as \"127.0.0.2\", \"127.0.0.4/30\" or \"127.0.*.3\"", text)
	}
	*c = parsed
	return nil
}

// MarshalText gives the code as it was written.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.text), nil }

func parseCode(text string) (Code, bool) {
	c := Code{text: text}
	if network, err := netip.ParsePrefix(text); err == nil {
		if !network.Addr().Is4() || network.Bits() < 8 || !loopback.Contains(network.Addr()) || network != network.Masked() {
			return Code{}, false
		}
		c.value, c.mask = number(network.Addr()), ^uint32(0)<<(32-network.Bits())
		return c, true
	}
	parts := strings.Split(text, ".")
	if len(parts) != 4 || parts[0] != "127" {
		return Code{}, false
	}
	for _, part := range parts {
		c.value, c.mask = c.value<<8, c.mask<<8
		if part == "*" {
			continue
		}
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			return Code{}, false
		}
		c.value, c.mask = c.value|uint32(n), c.mask|0xff
	}
	return c, true
}

// number gives an IPv4 address as a number.
func number(addr netip.Addr) uint32 {
	bytes := addr.As4()
	return binary.BigEndian.Uint32(bytes[:])
}

func (c Code) matches(addr netip.Addr) bool { return number(addr)&c.mask == c.value }

// list is a list that can be asked.
type list struct {
	*List
	zone    *zone
	weights []weighted // the ones that say most in front
	wrong   []error    // what is no code in Weights
}

type weighted struct {
	Code
	weight float64
}

func newList(settings *List, all *zones) *list {
	settings.Zone = strings.TrimSuffix(settings.Zone, ".")
	l := &list{List: settings, zone: all.of(settings.Zone)}
	for _, text := range slices.Sorted(maps.Keys(settings.Weights)) {
		var c Code
		weight := settings.Weights[text]
		if err := c.UnmarshalText([]byte(text)); err != nil {
			l.wrong = append(l.wrong, err)
		} else if !(weight >= 0 && weight <= 100_000) {
			l.wrong = append(l.wrong, fmt.Errorf("the weight of %s is %g: it is between 0 and 100000", text, weight))
		}
		l.weights = append(l.weights, weighted{c, weight})
	}
	slices.SortStableFunc(l.weights, func(a, b weighted) int { return bits.OnesCount32(b.mask) - bits.OnesCount32(a.mask) })
	return l
}

// subject gives what the list is asked about, as people read it, and the name
// that is looked up; "" if there is nothing to ask about.
func (l *list) subject(tx *mail.Transaction) (subject, query string) {
	switch l.Kind {
	case kindHelo:
		return l.domain(tx.Session.Helo)
	case kindFrom:
		return l.domain(tx.Envelope.ReversePath.Domain)
	default:
		addr := tx.Session.RemoteAddr.Addr().Unmap().WithZone("")
		return addr.String(), dns.ReverseName(addr, l.Zone)
	}
}

// domain leaves out what is no domain name: address literals, nonsense, names
// without a dot.
func (l *list) domain(text string) (subject, query string) {
	domain, err := mail.ParseDomain(strings.TrimSuffix(text, "."))
	if err != nil || strings.HasPrefix(domain, "[") || !strings.Contains(domain, ".") {
		return "", ""
	}
	if _, err := netip.ParseAddr(domain); err == nil {
		return "", ""
	}
	return domain, domain + "." + l.Zone
}

// answer is what a list said about one name.
type answer struct {
	codes []netip.Addr
	text  string
}

// lookup asks the list. An error means that it gave no answer that can be used.
// alone says that no other list can be asked.
func (l *list) lookup(ctx context.Context, r resolver, query string, alone bool, now func() time.Time) (answer, error) {
	if err := l.zone.ask(now(), alone); err != nil {
		return answer{}, err
	}
	addrs, err := r.LookupIP(ctx, "ip4", query)
	switch {
	case errors.Is(err, dns.ErrNotFound):
		l.zone.answered(false)
		return answer{}, nil
	case errors.Is(err, dns.ErrBadName):
		return answer{}, nil // with the zone behind it the name is too long to be listed
	case err == nil:
		err = l.check(addrs)
	}
	if err != nil {
		if !errors.Is(context.Cause(ctx), context.Canceled) {
			l.zone.failed(err, now())
		}
		return answer{}, err
	}
	l.zone.answered(true)
	said := answer{codes: addrs}
	if l.Kind != kindAllow {
		// Only people need the text: without it the listing holds just as well.
		texts, _ := r.LookupTXT(ctx, query)
		said.text = strings.Join(texts, " ")
	}
	return said, nil
}

// check refuses answers that are no listings. One of them makes the whole answer
// doubtful.
func (l *list) check(addrs []netip.Addr) error {
	for _, addr := range addrs {
		switch {
		case !loopback.Contains(addr):
			return fmt.Errorf("it answers %s, which is no code of a list: the zone is gone, or the name server makes answers up", addr)
		case errorCodes.Contains(addr):
			return fmt.Errorf("it answers the error code %s: %s", addr, errorText(addr))
		case addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}):
			return fmt.Errorf("it answers %s, which no listing has (RFC 5782 section 5): it may refuse this name server", addr)
		case l.Kind == kindAllow && addr == netip.AddrFrom4([4]byte{127, 0, 0, 255}):
			return fmt.Errorf("it answers %s, by which allow lists refuse who asks too often", addr)
		}
	}
	return nil
}

// errorText says what the error codes mean that large lists have in common.
func errorText(addr netip.Addr) string {
	switch addr.As4()[3] {
	case 252:
		return "the name of the zone is wrong"
	case 254:
		return "it refuses public resolvers: ask by way of a resolver of your own (dns { servers })"
	case 255:
		return "it was asked too often"
	default:
		return "it refuses the question"
	}
}

// weigh gives the codes that count and the greatest of their weights.
func (l *list) weigh(addrs []netip.Addr) ([]netip.Addr, float64) {
	var codes []netip.Addr
	greatest := 0.0
	for _, addr := range addrs {
		matches := func(c Code) bool { return c.matches(addr) }
		if len(l.Codes) > 0 && !slices.ContainsFunc(l.Codes, matches) {
			continue
		}
		codes = append(codes, addr)
		weight := l.Weight
		if i := slices.IndexFunc(l.weights, func(w weighted) bool { return w.matches(addr) }); i >= 0 {
			weight = l.weights[i].weight
		}
		greatest = max(greatest, weight)
	}
	return codes, greatest
}
