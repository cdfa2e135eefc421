package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/miekg/dns"

	"github.com/mox-like/mox-like/bench/proc"
)

// clientHost is the address of the client and of the servers. It is none of
// 127.0.0.0/8, for which the filters make exceptions.
const clientHost = "192.0.2.1"

const selector = "s2026"

// enter runs this program again in a network and a mount namespace of its own, in
// which it is the one who answers at port 53. The messages are signed before.
func enter(ctx context.Context, o *options, args []string, stdout, stderr io.Writer) (err error) {
	world, err := os.MkdirTemp(o.dir, "ingest-world-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(world)) }() //nolint:gosec // the operator says where
	if err := os.Chmod(world, 0o755); err != nil {                 //nolint:gosec // the filters read it as other users
		return err
	}
	if o.binary == "" {
		if o.binary, err = proc.Build(ctx, world); err != nil {
			return err
		}
	}
	if err := sign(ctx, world, o.sizes); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	inside := command(ctx, self, append(args, "--world", world, "--mox-like", o.binary)...)
	inside.Stdout, inside.Stderr = stdout, stderr
	inside.Cancel = func() error { return inside.Process.Signal(syscall.SIGTERM) }
	inside.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if err := inside.Run(); err != nil {
		return fmt.Errorf("run in namespaces: %w (which takes root)", err)
	}
	return nil
}

// sign writes a signed message of each size, and the zone in which its sender's
// domain says who may send for it.
func sign(ctx context.Context, world string, sizes []int) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	keyFile := filepath.Join(world, "key.pem")
	if err := os.WriteFile(keyFile, private, 0o600); err != nil { //nolint:gosec // the operator says where
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	zone := fmt.Sprintf(zoneText, selector, quoted("v=DKIM1; k=rsa; p="+base64.StdEncoding.EncodeToString(public)))
	if err := os.WriteFile(filepath.Join(world, "zone"), []byte(zone), 0o644); err != nil { //nolint:gosec // nothing is secret in it
		return err
	}
	o := options{world: world}
	for _, size := range sizes {
		dkimsign := command(ctx, "dkimsign", selector, "example.org", keyFile)
		dkimsign.Stdin = bytes.NewReader(newMessage(size))
		var fault bytes.Buffer
		dkimsign.Stderr = &fault
		text, err := dkimsign.Output()
		if err != nil {
			return fmt.Errorf("run dkimsign: %w: %s (it is in Debian's package python3-dkim)", err, bytes.TrimSpace(fault.Bytes()))
		}
		text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))       // as smtp-source wants it
		if err := os.WriteFile(o.signed(size), text, 0o644); err != nil { //nolint:gosec // nothing is secret in it
			return err
		}
	}
	return nil
}

// zoneText is all that there is in the DNS.
const zoneText = `$TTL 86400
example.org. TXT "v=spf1 ip4:192.0.2.1 -all"
example.org. MX 10 client.example.org.
client.example.org. A 192.0.2.1
client.example.org. TXT "v=spf1 a -all"
1.2.0.192.in-addr.arpa. PTR client.example.org.
%s._domainkey.example.org. TXT %s
_dmarc.example.org. TXT "v=DMARC1; p=reject"
`

// quoted gives a text as the character-strings of a TXT record.
func quoted(text string) string {
	var parts []string
	for len(text) > 255 {
		parts, text = append(parts, `"`+text[:255]+`"`), text[255:]
	}
	return strings.Join(append(parts, `"`+text+`"`), " ")
}

// newMessage makes a message that is about size bytes once it is signed.
func newMessage(size int) []byte {
	const line = "Some text that stands in a message and is as long as most.\r\n"
	const signature = 700
	b := []byte("From: Bob <" + sender + ">\r\nTo: <" + recipient + ">\r\nSubject: Load\r\n" +
		"Date: Sun, 01 Nov 2026 12:00:00 +0000\r\nMessage-ID: <load@example.org>\r\n\r\n")
	for len(b)+len(line)+signature <= size {
		b = append(b, line...)
	}
	return b
}

// world is what the servers meet inside of the namespaces.
type world struct{ servers []*dns.Server }

// openWorld brings the loopback interface up, answers at port 53 and has the
// resolvers of the programs ask there.
func openWorld(ctx context.Context, o *options) (*world, error) {
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"address", "add", clientHost + "/32", "dev", "lo"}} {
		if output, err := command(ctx, "ip", args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("run ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(output))
		}
	}
	resolv := filepath.Join(o.world, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil { //nolint:gosec // everybody reads it
		return nil, err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("keep mounts private: %w", err)
	}
	if err := syscall.Mount(resolv, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("replace resolv.conf: %w", err)
	}
	zone, err := os.Open(filepath.Join(o.world, "zone")) //nolint:gosec // the operator says where
	if err != nil {
		return nil, err
	}
	defer zone.Close()
	return serve(zone)
}

// serve answers from a zone, by UDP and TCP.
func serve(zone io.Reader) (*world, error) {
	records := make(map[string][]dns.RR)
	parser := dns.NewZoneParser(zone, ".", "")
	for r, ok := parser.Next(); ok; r, ok = parser.Next() {
		records[r.Header().Name] = append(records[r.Header().Name], r)
	}
	if err := parser.Err(); err != nil {
		return nil, err
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		_ = w.WriteMsg(answer(records, question)) // who does not read it asks again
	})
	packets, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return nil, err
	}
	connections, err := net.Listen("tcp", "127.0.0.1:53")
	if err != nil {
		return nil, errors.Join(err, packets.Close())
	}
	o := &world{servers: []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: connections, Handler: handler}}}
	for _, s := range o.servers {
		go func() { _ = s.ActivateAndServe() }() // until close
	}
	return o, nil
}

func (w *world) close() {
	for _, s := range w.servers {
		_ = s.Shutdown() // the namespaces end with this process
	}
}

// answer gives what the zone has, and the absence of all else to be kept for a
// day, as the records are.
func answer(records map[string][]dns.RR, question *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(question)
	m.Authoritative, m.RecursionAvailable = true, true
	q := question.Question[0]
	found, exists := records[strings.ToLower(q.Name)]
	for _, r := range found {
		if r.Header().Rrtype == q.Qtype {
			m.Answer = append(m.Answer, r)
		}
	}
	if len(m.Answer) == 0 {
		header := dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 86400}
		m.Ns = []dns.RR{&dns.SOA{Hdr: header, Ns: "ns.example.org.", Mbox: "postmaster.example.org.", Minttl: 86400}}
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	if e := question.IsEdns0(); e != nil {
		m.SetEdns0(1232, e.Do())
	} else {
		m.Truncate(dns.MinMsgSize)
	}
	return m
}

// inboundChain is that of a server that checks who sent a message.
const inboundChain = `    blocklist {}
    ratelimit {
      key   = "ip"
      limit = "1000000/1s"
    }
    spf {}
    # Each triplet is looked up, though SPF has passed.
    greylist {
      delay      = "0s"
      pass_after = 0
      spf_pass   = "domain"
    }
    dkim_verify {}
    dmarc {}
    authres {}
    score {}
`

// startInbound starts mox-like with that chain.
func startInbound(ctx context.Context, binary, dir string) (*checked, error) {
	server, err := startMoxLike(ctx, binary, dir, inboundChain, clientHost)
	if err != nil {
		return nil, err
	}
	return &checked{instance: server, first: server.first}, nil
}

// checked is a server whose first message is looked at: a filter that does not
// filter would be a fast one.
type checked struct {
	instance
	first func(context.Context) ([]byte, error)
}

func (c *checked) stored(ctx context.Context, n int) error {
	text, err := c.first(ctx)
	if err != nil {
		return fmt.Errorf("read a message: %w", err)
	}
	header, _, _ := bytes.Cut(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	for _, word := range []string{"spf=pass", "dkim=pass", "dmarc=pass"} {
		if !bytes.Contains(header, []byte(word)) {
			return fmt.Errorf("a message came without %s:\n%s", word, header)
		}
	}
	return c.instance.stored(ctx, n)
}
