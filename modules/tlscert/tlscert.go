// Package tlscert holds two sources of certificates for TLS: tls.files reads
// them from files and reads them again when these change, tls.self_signed makes
// its own, for tests and for networks in which clients are told to trust it.
//
// Both choose by the server name of the handshake (RFC 6066 section 3). A client
// that sends none gets the first certificate that it can use; for a name that no
// certificate has they give none, and the core asks the next source.
package tlscert

import (
	"crypto/tls"
	"strings"
	"sync/atomic"
	"time"
)

// selection is a set of certificates in order of preference. It is immutable.
type selection struct {
	list   []*tls.Certificate
	byName map[string][]*tls.Certificate
}

// newSelection indexes certificates, whose Leaf is set, by their DNS names.
func newSelection(list []*tls.Certificate) *selection {
	s := &selection{list: list, byName: make(map[string][]*tls.Certificate)}
	for _, cert := range list {
		for _, name := range cert.Leaf.DNSNames {
			name = normalName(name)
			s.byName[name] = append(s.byName[name], cert)
		}
	}
	return s
}

// choose gives the certificate for a handshake, nil if none has the name. Of
// several with the name, it is the first whose kind of key the client can use. A
// nil selection is empty.
func (s *selection) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	if s == nil {
		return nil
	}
	name := normalName(hello.ServerName)
	if name == "" {
		return usable(s.list, hello)
	}
	if found := s.byName[name]; found != nil {
		return usable(found, hello)
	}
	if i := strings.IndexByte(name, '.'); i > 0 {
		return usable(s.byName["*"+name[i:]], hello)
	}
	return nil
}

func usable(list []*tls.Certificate, hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(list) == 0 {
		return nil
	}
	for _, cert := range list {
		if len(list) == 1 || hello.SupportsCertificate(cert) == nil {
			return cert
		}
	}
	return list[0]
}

func normalName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// pacer lets one caller at a time through, and not before an interval has
// passed since the last. What happens now and then is so done by the handshakes
// themselves, and no goroutine wakes a server that has nothing to do. The zero
// pacer lets the first caller through. It is safe for concurrent use.
type pacer struct {
	busy atomic.Bool
	next atomic.Int64 // Unix time in nanoseconds
}

// do calls f if it is due.
func (p *pacer) do(now time.Time, every time.Duration, f func()) {
	if now.UnixNano() < p.next.Load() || !p.busy.CompareAndSwap(false, true) {
		return
	}
	defer p.busy.Store(false)
	if now.UnixNano() >= p.next.Load() { // else another was here just before
		p.next.Store(now.Add(every).UnixNano())
		f()
	}
}
