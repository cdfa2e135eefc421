package smtp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kit is a listener with a chain of its own, on loopback.
type kit struct {
	listener *Listener
	traces   *recorder
	sink     *sink
	address  string
}

// options change what newKit makes.
type options struct {
	// body is what stands in the listener block beside the address.
	body string
	// judge is asked at every stage, before the target.
	judge judge
	// domains have chains of their own, all of them the same handlers.
	domains []string
	scram   scramKeys
	// broken makes the store refuse to write.
	broken bool
	// storeless leaves the store out.
	storeless bool
	log       *zap.Logger
}

// judge is a handler made of a function. It acts at every stage.
type judge func(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error)

// Handle calls the function.
func (j judge) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if j == nil {
		return mail.Verdict{}, nil
	}
	return j(ctx, tx)
}

// sink is a target for example.test and its neighbours. It keeps what it takes.
type sink struct {
	mu        sync.Mutex
	envelopes []mail.Envelope
	messages  []string
}

// Handle takes recipients at the domains that end in .test. The recipient full
// finds the disk full.
func (k *sink) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if tx.Stage == mail.StageRcpt {
		a := tx.Recipient.Address
		switch {
		case a.Domain == "" || strings.HasSuffix(a.Domain, ".test"):
			return mail.Accept("mailbox is here"), nil
		default:
			return mail.Verdict{}, nil
		}
	}
	for _, r := range tx.Envelope.Recipients {
		if r.Address.LocalPart == "full" {
			return mail.Verdict{}, &mail.ReplyError{Reply: mail.NewReply(452, 3, 1, "Insufficient system storage"), Cause: store.ErrFull}
		}
	}
	rendered, err := tx.Rendered()
	if err != nil {
		return mail.Verdict{}, err
	}
	raw, err := rendered.Bytes()
	if err != nil {
		return mail.Verdict{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.envelopes = append(k.envelopes, tx.Envelope)
	k.messages = append(k.messages, string(raw))
	for _, r := range tx.Envelope.Recipients {
		r.Delivered = true
	}
	return mail.Accept("stored"), nil
}

// last gives the newest message.
func (k *sink) last(t *testing.T) (mail.Envelope, string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.messages) == 0 {
		t.Fatal("no message came in")
	}
	return k.envelopes[len(k.envelopes)-1], k.messages[len(k.messages)-1]
}

func (k *sink) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.messages)
}

// recorder keeps the traces.
type recorder struct {
	mu      sync.Mutex
	records []*trace.Record
	through int // written through
}

// Add keeps r.
func (r *recorder) Add(record *trace.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record)
}

// AddTx keeps r.
func (r *recorder) AddTx(_ *store.Tx, record *trace.Record) error {
	r.Add(record)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.through++
	return nil
}

// kinds lists the kinds of the records in order.
func (r *recorder) kinds() []trace.Kind {
	r.mu.Lock()
	defer r.mu.Unlock()
	var kinds []trace.Kind
	for _, record := range r.records {
		kinds = append(kinds, record.Kind)
	}
	return kinds
}

// settings decodes a listener block.
func settings(t testing.TB, body string) *Listener {
	t.Helper()
	source := "listener {\naddress = \"127.0.0.1:0\"\n" + body + "\n}"
	file, ds := config.Parse("test.hcl", []byte(source), config.Options{})
	if err := ds.Err(); err != nil {
		t.Fatalf("parse %s: %v", source, err)
	}
	l := new(Listener)
	if err := config.Decode(file.Root.Blocks("listener")[0], l).Err(); err != nil {
		t.Fatalf("decode %s: %v", source, err)
	}
	return l
}

// newListener makes a listener without a server around it.
func newListener(t testing.TB, o options) *kit {
	t.Helper()
	l := settings(t, o.body)
	k := &kit{listener: l, traces: new(recorder), sink: new(sink)}
	l.name, l.hostname, l.now = "test", "mx.example.test", time.Now
	if l.log = o.log; l.log == nil {
		l.log = zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	}
	steps := []*chain.Step{
		{Name: "judge", Handler: o.judge, Stages: mail.AtConnect | mail.AtHelo | mail.AtAuth | mail.AtMail | mail.AtRcpt | mail.AtData},
		{Name: "sink", Handler: k.sink, Stages: mail.AtRcpt | mail.AtData, Target: true},
	}
	if o.judge == nil {
		steps = steps[1:]
	}
	domains := make(map[string]*chain.Chain)
	for _, d := range o.domains {
		domains[d] = chain.New(steps, chain.Options{Logger: l.log})
	}
	l.chains = chain.NewSet(chain.New(steps, chain.Options{Logger: zap.NewNop()}), domains)
	l.traces, l.scram, l.spoolDir = k.traces, o.scram, t.TempDir()
	l.connections, _ = connections.New()
	if !o.storeless {
		l.store = openStore(t, o.broken)
	}
	if l.TLS != tlsOff {
		l.tls = &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS12}
	}
	l.prepare()
	return k
}

// openStore opens a store in memory until the test ends; a broken one is closed
// at once.
func openStore(t testing.TB, broken bool) *store.Store {
	t.Helper()
	st, err := store.OpenMemory(store.Options{})
	if err != nil {
		t.Fatalf("open store: %v", err)
	}
	closeStore := func() {
		if err := st.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	}
	if broken {
		closeStore()
	} else {
		t.Cleanup(closeStore)
	}
	return st
}

// newKit makes a listener and serves it on loopback until the test ends.
func newKit(t testing.TB, o options) *kit {
	t.Helper()
	k := newListener(t, o)
	k.listen(t)
	return k
}

// listen serves the listener on loopback until the test ends.
func (k *kit) listen(t testing.TB) {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	k.address = socket.Addr().String()
	k.serve(t, socket)
}

// serve serves a socket and drains the listener when the test ends.
func (k *kit) serve(t testing.TB, socket net.Listener) {
	t.Helper()
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { ended <- k.listener.Serve(ctx, socket) }()
	t.Cleanup(func() {
		defer cancel()
		if err := socket.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("close socket: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		limit, cancelDrain := context.WithTimeout(ctx, 20*time.Second)
		defer cancelDrain()
		if err := k.listener.Drain(limit); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
}

// drained waits until no session runs.
func (k *kit) drained(t *testing.T) {
	t.Helper()
	k.listener.mu.Lock()
	defer k.listener.mu.Unlock()
	k.listener.wait(t.Context())
}

// dial connects; the connection is closed when the test ends.
func (k *kit) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", k.address)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

var makeCertificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

// certificate is for mx.example.test, signed by nobody.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	c, err := makeCertificate()
	if err != nil {
		t.Fatalf("make certificate: %v", err)
	}
	return c
}

func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true} // the certificate is the test's own
}

// readAll reads until the server closes.
func readAll(t testing.TB, conn net.Conn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(replyTimeout)); err != nil {
		t.Fatalf("set deadline: %v", err)
	}
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("read to the end: %v, after %q", err, all)
	}
	return string(all)
}
