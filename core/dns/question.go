package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	miekg "github.com/miekg/dns"
	"golang.org/x/net/idna"

	"github.com/mox-like/mox-like/core/mail"
)

// Type is a type of records (RFC 1035 section 3.2.2).
type Type uint16

// The types that can be asked for.
const (
	TypeA     = Type(miekg.TypeA)
	TypeAAAA  = Type(miekg.TypeAAAA)
	TypeCNAME = Type(miekg.TypeCNAME)
	TypeMX    = Type(miekg.TypeMX)
	TypeNS    = Type(miekg.TypeNS)
	TypePTR   = Type(miekg.TypePTR)
	TypeSOA   = Type(miekg.TypeSOA)
	TypeTLSA  = Type(miekg.TypeTLSA)
	TypeTXT   = Type(miekg.TypeTXT)
)

// String gives the type's name, such as "MX".
func (t Type) String() string { return miekg.Type(t).String() }

// Answer is what the DNS has of one type under a name. Its slices are shared and
// not to be changed. Which of them are filled follows from the type. Names in it
// are in lower case or not, as the server wrote them, without the last dot, and
// printable: bytes that no host name has are escaped (RFC 1035 section 5.1).
type Answer struct {
	// Name is the one that has the records: the last of the CNAME records that led
	// there, else the one that was asked.
	Name string
	// TTL is how long the answer holds from now on.
	TTL time.Duration
	// Authentic tells that a trusted server has validated the answer (RFC 6840
	// section 5.8).
	Authentic bool

	// Addrs are those of A and AAAA records.
	Addrs []netip.Addr
	// Texts are those of TXT records, the strings of each joined.
	Texts []string
	// Exchangers are those of MX records, by preference.
	Exchangers []net.MX
	// Names are those of PTR, CNAME and NS records.
	Names []string
	// TLSA are the associations of TLSA records (RFC 6698).
	TLSA []TLSA
	// SOA is the SOA record, nil for other types.
	SOA *SOA
}

// TLSA is what a TLSA record says of a certificate (RFC 6698 section 2.1).
type TLSA struct {
	Usage, Selector, MatchingType uint8
	// Data is the certificate association data.
	Data []byte
}

// SOA is what an SOA record says of a zone (RFC 1035 section 3.3.13).
type SOA struct {
	PrimaryServer, Mailbox string
	Serial                 uint32
	// Minimum is for how long the absence of a name may be remembered at most.
	Minimum time.Duration
}

// question is what is asked: the key of the cache and of flights.
type question struct {
	name string // as canonical makes it
	typ  Type
}

// The limits of RFC 1035 section 2.3.4.
const (
	maxLabel = 63
	maxName  = 253 // of text without the last dot: 255 bytes on the wire
)

// lookupProfile makes A-labels of what people write. Unlike for addresses of
// mail, underscores and the like may stand beside them.
var lookupProfile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false))

// canonical gives the form in which names are compared and sent: ASCII in lower
// case, without the last dot, escaped as in a zone file where a byte is special
// (RFC 1035 section 5.1). Nearly all names have it already.
func canonical(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	plain, ascii := true, true
	for i := range len(name) {
		c := name[i]
		ascii = ascii && c < 0x80
		plain = plain && isPlain(c)
	}
	if !ascii {
		if !utf8.ValidString(name) {
			return "", errors.New("it is no UTF-8")
		}
		var err error
		if name, err = lookupProfile.ToASCII(name); err != nil {
			return "", err
		}
	}
	if err := checkLengths(name); err != nil || plain {
		return name, err
	}
	return escape(strings.ToLower(name)), nil
}

// isPlain tells the bytes that canonical leaves alone.
func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

func checkLengths(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case len(name) > maxName:
		return fmt.Errorf("it has %d bytes of %d", len(name), maxName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel {
			return fmt.Errorf("a label has %d bytes, not 1 to %d", len(label), maxLabel)
		}
	}
	return nil
}

// escape writes special bytes as miekg/dns gives them back.
func escape(name string) string {
	var b strings.Builder
	b.Grow(len(name) + 8)
	for i := range len(name) {
		switch c := name[i]; {
		case strings.IndexByte(` '@;()"\`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// printableName makes a name that a stranger may have chosen fit for a text.
func printableName(name string) string { return mail.Printable(name, maxName) }

// ReverseName gives the name under which an address stands in a zone: its bytes
// for IPv4, its nibbles for IPv6, in reverse, before the zone (RFC 5782 section
// 2.1 and 2.4). The empty zone means in-addr.arpa or ip6.arpa (RFC 1035 section
// 3.5, RFC 3596 section 2.5).
func ReverseName(addr netip.Addr, zone string) string {
	addr = addr.Unmap()
	buf := make([]byte, 0, 80+len(zone))
	if addr.Is4() {
		bytes := addr.As4()
		for i := len(bytes) - 1; i >= 0; i-- {
			buf = append(strconv.AppendUint(buf, uint64(bytes[i]), 10), '.')
		}
		if zone == "" {
			zone = "in-addr.arpa"
		}
		return string(append(buf, zone...))
	}
	const digits = "0123456789abcdef"
	bytes := addr.As16()
	for i := len(bytes) - 1; i >= 0; i-- {
		buf = append(buf, digits[bytes[i]&15], '.', digits[bytes[i]>>4], '.')
	}
	if zone == "" {
		zone = "ip6.arpa"
	}
	return string(append(buf, zone...))
}
