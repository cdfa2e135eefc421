package smtp

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

const trusted = `proxy_protocol { from = ["127.0.0.0/8"] }` + "\n"

// remoteAt tells the client's address in the reply to EHLO, and refuses it.
func remoteAt(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Stage != mail.StageHelo {
		return mail.Verdict{}, nil
	}
	return reject(tx.Session.RemoteAddr.String() + " to " + tx.Session.LocalAddr.String()), nil
}

func proxyV2(t *testing.T, command proxyproto.ProtocolVersionAndCommand, source, destination string) string {
	t.Helper()
	h := &proxyproto.Header{Version: 2, Command: command, TransportProtocol: proxyproto.UNSPEC}
	if source != "" {
		from, to := netip.MustParseAddrPort(source), netip.MustParseAddrPort(destination)
		h.TransportProtocol, h.SourceAddr, h.DestinationAddr = proxyproto.TCPv4, net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(to)
		if from.Addr().Is6() {
			h.TransportProtocol = proxyproto.TCPv6
		}
	}
	var b bytes.Buffer
	if _, err := h.WriteTo(&b); err != nil {
		t.Fatalf("make header: %v", err)
	}
	return b.String()
}

// proxyUnix is a header without an address of a network.
func proxyUnix(t *testing.T) string {
	t.Helper()
	h := &proxyproto.Header{
		Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.UnixStream,
		SourceAddr: &net.UnixAddr{Name: "client", Net: "unix"}, DestinationAddr: &net.UnixAddr{Name: "server", Net: "unix"},
	}
	var b bytes.Buffer
	if _, err := h.WriteTo(&b); err != nil {
		t.Fatalf("make header: %v", err)
	}
	return b.String()
}

func TestProxy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, header, script string }{
		{"version 1", trusted, "PROXY TCP4 192.0.2.7 203.0.113.1 40000 25\r\n", `
			<- 220 *
			-> EHLO client.example.org
			<- 550 5.7.1 192.0.2.7:40000 to 203.0.113.1:25 (id ID)`},
		{"version 2", trusted, proxyV2(t, proxyproto.PROXY, "192.0.2.7:40000", "203.0.113.1:25"), `
			<- 220 *
			-> EHLO client.example.org
			<- 550 5.7.1 192.0.2.7:40000 to 203.0.113.1:25 (id ID)`},
		{"version 2, IPv6", trusted, proxyV2(t, proxyproto.PROXY, "[2001:db8::7]:40000", "[2001:db8::1]:25"), `
			<- 220 *
			-> EHLO client.example.org
			<- 550 5.7.1 [2001:db8::7]:40000 to [2001:db8::1]:25 (id ID)`},
		{"health check", trusted, proxyV2(t, proxyproto.LOCAL, "", ""), `
			<- 220 *
			-> EHLO client.example.org
			<- 550 5.7.1 127.0.0.1:*`},
		{"before implicit TLS", trusted + `tls = "implicit"`, "PROXY TCP4 192.0.2.7 203.0.113.1 40000 465\r\n", `
			TLS
			<- 220 *
			-> EHLO client.example.org
			<- 550 5.7.1 192.0.2.7:40000 to 203.0.113.1:465 (id ID)`},
		{"client spoke behind it", trusted, "PROXY TCP4 192.0.2.7 203.0.113.1 40000 25\r\nEHLO x\r\n", `
			<- 554 5.5.1 You spoke before the greeting (id ID)
			EOF`},
		{"no header", trusted, "EHLO client.example.org\r\n", "EOF"},
		{"health check, version 1", trusted, "PROXY UNKNOWN\r\n", `
			<- 220 *
			-> EHLO client.example.org
			<- 550 5.7.1 127.0.0.1:*`},
		{"header of a unix socket", trusted, proxyUnix(t), "EOF"},
		{"version 1 without an end", trusted, "PROXY TCP4 192.0.2.7 ", "EOF"},
		{"not from a balancer", `proxy_protocol { from = ["192.0.2.0/24"] }` + "\nsubmission = true", "PROXY TCP4 192.0.2.7 203.0.113.1 40000 25\r\n", `
			<- 220 *
			<- 500 5.5.1 Command not recognized`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, options{body: test.body, judge: remoteAt})
			conn := k.dial(t)
			transmit(t, conn, test.header)
			coretest.Talk(t, conn, test.script)
		})
	}
}

// TestProxyHeaderAndHello pins that what follows the header at once is not lost,
// as the ClientHello of a TLS client behind an eager balancer.
func TestProxyHeaderAndHello(t *testing.T) {
	t.Parallel()
	k := newKit(t, options{body: trusted + `tls = "implicit"`})
	coretest.Talk(t, &glued{Conn: k.dial(t), header: []byte("PROXY TCP4 192.0.2.7 203.0.113.1 40000 465\r\n")}, `
		TLS
		<- 220 *
		-> QUIT
		<- 221 *
		EOF
	`)
}

// glued sends a header with the first bytes.
type glued struct {
	net.Conn
	header []byte
}

func (g *glued) Write(p []byte) (int, error) {
	n := len(g.header)
	if n == 0 {
		return g.Conn.Write(p)
	}
	whole := append(g.header, p...)
	g.header = nil
	written, err := g.Conn.Write(whole)
	return max(written-n, 0), err
}

// TestProxyHealthCheck pins that a balancer that connects and closes, as many do
// every few seconds, leaves nothing behind.
func TestProxyHealthCheck(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	k := newKit(t, options{body: trusted, log: zap.New(core)})
	if err := k.dial(t).Close(); err != nil {
		t.Fatal(err)
	}
	conn := k.dial(t)
	transmit(t, conn, "nonsense\r\n")
	if got := readAll(t, conn); got != "" {
		t.Errorf("answer %q", got)
	}
	k.drained(t)
	if logs.Len() != 1 || logs.All()[0].Level != zap.WarnLevel || len(k.traces.kinds()) != 0 {
		t.Errorf("log %v, traces %v; want one warning, about the second connection", logs.All(), k.traces.kinds())
	}
}

// TestProxyLimits pins that clients behind a balancer are counted by their own
// networks.
func TestProxyLimits(t *testing.T) {
	t.Parallel()
	k := newKit(t, options{body: trusted + "limits { connections_per_network = 1 }"})
	for _, step := range []struct{ ip, reply string }{
		{"192.0.2.7", "220 *"}, {"192.0.2.8", "220 *"}, {"192.0.2.7", "421 4.7.0 Too many connections from your network, try again later (id ID)"},
	} {
		conn := k.dial(t)
		transmit(t, conn, "PROXY TCP4 "+step.ip+" 203.0.113.1 40000 25\r\n")
		coretest.Talk(t, conn, "<- "+step.reply)
	}
}
