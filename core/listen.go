package core

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core/config"
)

// endpoint is an address to listen on in a form that can be compared.
type endpoint struct {
	path string     // of a unix socket, "" for TCP
	ip   netip.Addr // the zero value stands for every address, IPv4 and IPv6
	port int        // with 0 the system chooses a free one
}

// maxSocketPath is how long the path of a unix socket may be, see unix(7).
const maxSocketPath = 107

// parseEndpoint reads "host:port", the host being an IP address, localhost or
// empty for every address, or "unix:path", a relative path being one in dir. way
// says what to write instead, "" if the address is good.
func parseEndpoint(address, dir string) (e endpoint, way string) {
	if path, ok := unixPath(address); ok {
		return parseSocketPath(path, dir)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return e, `Write host:port, such as "0.0.0.0:25" or "[::]:25", or unix:path.`
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return e, `The port is a number from 1 to 65535, as in "0.0.0.0:25".`
	}
	e.port = int(n)
	switch host {
	case "":
	case "*":
		return e, fmt.Sprintf(`Write "0.0.0.0:%d", "[::]:%d" or both.`, n, n)
	case "localhost":
		e.ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return e, fmt.Sprintf(`The host is an IP address of this machine and no name. Write "0.0.0.0:%d" for every IPv4 address, "[::]:%d" for every IPv6 address, or both.`, n, n)
		}
		e.ip = ip.Unmap()
	}
	return e, ""
}

func parseSocketPath(path, dir string) (e endpoint, way string) {
	if path == "" {
		return e, `Write unix: and the path of the socket, such as "unix:/run/mox-like/smtp.sock".`
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if len(path) > maxSocketPath {
		return e, fmt.Sprintf("The path of a socket has at most %d bytes, and %s has %d.", maxSocketPath, path, len(path))
	}
	e.path = filepath.Clean(path)
	return e, ""
}

// listenNetwork gives the network for net.Listen. There "tcp" makes both 0.0.0.0
// and [::] mean every address, and the second of the two cannot be bound; here
// the first means IPv4, the second IPv6, and no host means both.
func listenNetwork(address string) string {
	switch e, _ := parseEndpoint(address, ""); {
	case !e.ip.IsValid():
		return "tcp"
	case e.ip.Is4():
		return "tcp4"
	default:
		return "tcp6"
	}
}

// clashes tells whether the two cannot be bound at once.
func (e endpoint) clashes(other endpoint) bool {
	switch {
	case e.path != "" || other.path != "":
		return e.path == other.path
	case e.port != other.port || e.port == 0:
		return false
	case !e.ip.IsValid() || !other.ip.IsValid():
		return true
	case e.ip.Is4() != other.ip.Is4():
		return false
	default:
		return e.ip == other.ip || e.ip.IsUnspecified() || other.ip.IsUnspecified()
	}
}

// every says which addresses a wildcard stands for, "" for one address.
func (e endpoint) every() string {
	switch {
	case e.path != "":
		return ""
	case !e.ip.IsValid():
		return "every address"
	case !e.ip.IsUnspecified():
		return ""
	case e.ip.Is4():
		return "every IPv4 address"
	default:
		return "every IPv6 address"
	}
}

// takenAddress is an address of a listener, and where the file has it.
type takenAddress struct {
	endpoint
	text     string
	listener string
	place    hcl.Range
}

// addresses holds the addresses of a listener against those of the listeners
// before it. It tells whether all are good.
func (b *builder) addresses(l Listener, name string, block *config.Block) bool {
	good := true
	for i, text := range l.Sockets() {
		place := block.Place(fmt.Sprintf("address[%d]", i))
		e, way := parseEndpoint(text, b.gen.settings.Server.DataDir)
		if way != "" {
			b.ds.Errorf(place, "listener/bad-address", "%q is no address to listen on", text).WithDetail("%s", way)
			good = false
			continue
		}
		mine := takenAddress{endpoint: e, text: text, listener: name, place: place}
		for _, first := range b.taken {
			if mine.clashes(first.endpoint) {
				b.addressTaken(mine, first)
				good = false
				break
			}
		}
		b.taken = append(b.taken, mine)
	}
	return good
}

// checkFamilies warns of a listener that takes IPv6 only where nobody takes IPv4
// on that port: elsewhere [::] often means both. It is no news while addresses
// are wrong.
func (b *builder) checkFamilies() {
	if b.ds.HasErrors() {
		return
	}
	for _, wild := range b.taken {
		if wild.path != "" || !wild.ip.IsValid() || !wild.ip.IsUnspecified() || wild.ip.Is4() {
			continue
		}
		takesIPv4 := func(other takenAddress) bool {
			return other.path == "" && other.port == wild.port && (!other.ip.IsValid() || other.ip.Is4())
		}
		if !slices.ContainsFunc(b.taken, takesIPv4) {
			b.ds.Warnf(wild.place, "listener/ipv6-only", "%s takes IPv6 only, and no listener takes IPv4 on that port", wild.text).
				WithDetail(`Add "0.0.0.0:%d", or write ":%d" for both.`, wild.port, wild.port)
		}
	}
}

func (b *builder) addressTaken(mine, first takenAddress) {
	summary := fmt.Sprintf("%s is already the address of listener %q", mine.text, first.listener)
	way := "Remove one of the two, or give one of them another address or port."
	if mine.endpoint != first.endpoint {
		wild := mine
		if wild.every() == "" {
			wild = first
		}
		summary = fmt.Sprintf("%s cannot be bound beside %s of listener %q", mine.text, first.text, first.listener)
		way = fmt.Sprintf("%s is %s of this machine. %s", wild.text, wild.every(), way)
	}
	b.ds.Errorf(mine.place, "listener/address-taken", "%s", summary).WithDetail("%s", way).
		WithRelated(first.place, "the first one stands here")
}
