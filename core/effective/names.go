package effective

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// names gives names for documents: RFC 2606's domains, RFC 5737's and 3849's
// addresses, and the numbered words of whatever else there is. The same gets the
// same. It is used by one goroutine.
type names struct {
	domains, labels, local, paths, files map[string]string
	addresses                            map[netip.Addr]netip.Addr
	networks                             map[netip.Prefix]netip.Prefix
	counts                               map[string]int
}

func newNames() *names {
	return &names{
		domains: make(map[string]string), labels: make(map[string]string), local: make(map[string]string), paths: make(map[string]string), files: make(map[string]string),
		addresses: make(map[netip.Addr]netip.Addr), networks: make(map[netip.Prefix]netip.Prefix), counts: make(map[string]int),
	}
}

// next numbers what is made of one kind, from 1.
func (n *names) next(kind string) int {
	n.counts[kind]++
	return n.counts[kind]
}

// label renames a word that is a name of its own.
func (n *names) label(name, kind string) string {
	if to, ok := n.labels[name]; ok {
		return to
	}
	n.labels[name] = fmt.Sprintf("%s-%d", kind, n.next("label "+kind))
	return n.labels[name]
}

// text renames any text by what it looks like.
func (n *names) text(s string) string {
	if to, ok := n.labels[s]; ok {
		return to
	}
	if s == "" || s == "*" || s == "@" || isQuantity(s) {
		return s
	}
	if to, ok := n.network(s); ok {
		return to
	}
	if to, ok := n.endpoint(s); ok {
		return to
	}
	if i := strings.LastIndexByte(s, '@'); i >= 0 && isHost(s[i+1:]) {
		return n.person(s[:i]) + "@" + n.domain(s[i+1:])
	}
	switch {
	case strings.Contains(s, "/"):
		return n.path(s)
	case isHost(strings.TrimPrefix(strings.TrimPrefix(s, "*"), ".")) && strings.Contains(s, "."):
		bare := strings.TrimPrefix(strings.TrimPrefix(s, "*"), ".")
		return s[:len(s)-len(bare)] + n.domain(bare)
	case path.Ext(s) != "" && slices.Contains(extensions, path.Ext(s)):
		return n.path(s)
	default:
		return n.label(s, "text")
	}
}

// isQuantity tells whether a text is a time, a size or how much of something in a
// time.
func isQuantity(s string) bool {
	amount, window, rate := strings.Cut(s, "/")
	if rate {
		_, err := config.ParseRate("1/" + window)
		_, number := strconv.Atoi(amount)
		return err == nil && (number == nil || isQuantity(amount))
	}
	if _, err := strconv.Atoi(s); err == nil {
		return false // it may be a name
	}
	_, err := config.ParseDuration(s)
	if err != nil {
		_, err = config.ParseSize(s)
	}
	return err == nil
}

// mailbox renames a local-part or an address.
func (n *names) mailbox(s string) string {
	if s == "" || strings.Contains(s, "@") {
		return n.text(s)
	}
	return n.person(s)
}

// standardMailboxes are local-parts that RFC 2142 names.
var standardMailboxes = []string{"postmaster", "abuse", "hostmaster", "webmaster"}

// people are the persons of documents.
var people = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"}

func (n *names) person(local string) string {
	if local == "" || slices.Contains(standardMailboxes, local) {
		return local
	}
	if to, ok := n.local[local]; ok {
		return to
	}
	i := n.next("person")
	to := "user-" + strconv.Itoa(i)
	if i <= len(people) {
		to = people[i-1]
	}
	n.local[local] = to
	return to
}

// endpoint renames where something listens: a socket, a host with a port, a URL.
func (n *names) endpoint(s string) (string, bool) {
	if socket, ok := strings.CutPrefix(s, "unix:"); ok {
		return "unix:" + n.path(socket), true
	}
	if at, ok := strings.CutPrefix(s, "tcp:"); ok {
		return "tcp:" + n.text(at), true
	}
	if u, err := url.Parse(s); err == nil && u.Scheme != "" && u.Host != "" {
		host := u.Hostname()
		to := u.Scheme + "://" + n.host(host)
		if u.Port() != "" {
			to += ":" + u.Port()
		}
		if u.Path != "" && u.Path != "/" {
			to += n.path(u.Path)
		}
		return to, true
	}
	host, port, err := net.SplitHostPort(s)
	if _, number := strconv.ParseUint(port, 10, 16); err != nil || number != nil || host != "" && !isHost(host) && !isAddress(host) {
		return "", false
	}
	if host == "" {
		return s, true
	}
	return net.JoinHostPort(n.host(host), port), true
}

// host renames a host, which may be an address.
func (n *names) host(s string) string {
	if to, ok := n.network(s); ok {
		return to
	}
	if s == "localhost" {
		return s
	}
	return n.domain(s)
}

func isAddress(s string) bool { _, err := netip.ParseAddr(s); return err == nil }

func isHost(s string) bool {
	_, err := mail.ParseDomain(s)
	return err == nil && !strings.HasPrefix(s, "[")
}

// domains that are for documents.
var documentDomains = []string{"example.org", "example.net", "example.com"}

// domain renames a domain: one below another that has a name gets one below that.
func (n *names) domain(name string) string {
	if name == "*" || name == "" {
		return name
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if to, ok := n.domains[name]; ok {
		return to
	}
	to := ""
	for rest := name; to == ""; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		if above := n.domains[parent]; above != "" {
			to = fmt.Sprintf("host%d.%s", n.next("below "+above), above)
		}
		rest = parent
	}
	if to == "" {
		if i := n.next("domain"); i <= len(documentDomains) {
			to = documentDomains[i-1]
		} else {
			to = fmt.Sprintf("domain%d.example", i)
		}
	}
	n.domains[name] = to
	return to
}

// network renames an address or a network; those of the machine itself stay.
func (n *names) network(s string) (string, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return n.address(a.WithZone("")).String(), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return "", false
	}
	if p.Bits() == 0 || p.Addr().IsLoopback() {
		return s, true
	}
	to, ok := n.networks[p]
	if !ok {
		to = numberedNetwork(p, n.next(fmt.Sprint("network ", p.Addr().Is4(), p.Bits())))
		n.networks[p] = to
	}
	return to.String(), true
}

func (n *names) address(a netip.Addr) netip.Addr {
	if a.IsLoopback() || a.IsUnspecified() {
		return a
	}
	to, ok := n.addresses[a]
	if !ok {
		four := a.Unmap().Is4()
		to = numberedAddress(four, n.next(fmt.Sprint("address ", four)))
		n.addresses[a] = to
	}
	return to
}

// numberedAddress gives the address of that number for documents; those of RFC 2544
// where there are no more.
func numberedAddress(four bool, i int) netip.Addr {
	if !four {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
	}
	nets := [][3]byte{{192, 0, 2}, {198, 51, 100}, {203, 0, 113}}
	if k := (i - 1) / 254; k < len(nets) {
		return netip.AddrFrom4([4]byte{nets[k][0], nets[k][1], nets[k][2], byte((i-1)%254 + 1)})
	}
	return netip.AddrFrom4([4]byte{198, 18 + byte(i>>16&1), byte(i >> 8), byte(i)})
}

// numberedNetwork gives the network of that number among those of its length. Large
// ones are of 240.0.0.0/4, which nobody has (RFC 1112).
func numberedNetwork(p netip.Prefix, i int) netip.Prefix {
	bits := p.Bits()
	if !p.Addr().Unmap().Is4() {
		var b [16]byte
		copy(b[:], []byte{0x20, 0x01, 0x0d, 0xb8})
		if bits > 32 {
			number := uint64(i) << (63 - (bits-1)%64)
			at := 0
			if bits > 64 {
				at = 8
			}
			for k := range 8 {
				b[at+k] |= byte(number >> (56 - 8*k))
			}
		}
		return netip.PrefixFrom(netip.AddrFrom16(b), bits).Masked()
	}
	base := uint32(198<<24 | 18<<16)
	switch {
	case bits >= 24 && i <= 1<<min(bits-24, 8):
		base = uint32(192<<24|0<<16|2<<8) + uint32(i-1)<<(32-bits)
	case bits > 15:
		base += uint32(i) << (32 - bits) & 0x0001ffff
	default:
		base = 240<<24 + uint32(i-1)<<(32-bits)&0x0fffffff
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(base >> 24), byte(base >> 16), byte(base >> 8), byte(base)}), bits).Masked()
}

// extensions are those of files that stay, since they say what a file is.
var extensions = []string{".pem", ".crt", ".key", ".hcl", ".sock", ".ctl", ".txt", ".log", ".cdb", ".json"}

// path renames a file; one that is relative stays so.
func (n *names) path(s string) string {
	if to, ok := n.paths[s]; ok {
		return to
	}
	to := fmt.Sprintf("path/%d", n.next("path"))
	if strings.HasPrefix(s, "/") {
		to = "/" + to
	}
	if ext := path.Ext(s); slices.Contains(extensions, ext) {
		to += ext
	}
	n.paths[s] = to
	return to
}
