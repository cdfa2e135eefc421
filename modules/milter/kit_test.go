package milter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/emersion/go-milter"
	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// said is one packet of the wire.
type said struct {
	code byte
	data string
}

func (s said) String() string { return fmt.Sprintf("%c %q", s.code, s.data) }

// bytes gives the packet as it goes over the wire.
func (s said) bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(s.data)))
	return append(append(b, s.code), s.data...)
}

func indexed(n uint32, text string) string {
	return string(binary.BigEndian.AppendUint32(nil, n)) + text
}

// agreed is an answer to the offer.
func agreed(version uint32, actions wire.OptAction, protocol wire.OptProtocol, more string) said {
	b := binary.BigEndian.AppendUint32(nil, version)
	b = binary.BigEndian.AppendUint32(b, uint32(actions))
	b = binary.BigEndian.AppendUint32(b, uint32(protocol))
	return said{'O', string(b) + more}
}

// scripted is a milter that answers each step by its code with some packets, and with
// CONTINUE where it has none. It keeps what it was told.
type scripted struct {
	agree   said
	answers map[byte][]said

	mu   sync.Mutex
	told []said // guarded by mu
	wg   sync.WaitGroup
}

// silentBy are the flags by which a step has no answer.
var silentBy = map[byte]wire.OptProtocol{
	'C': wire.OptNoConnReply, 'H': wire.OptNoHeloReply, 'M': wire.OptNoMailReply, 'R': wire.OptNoRcptReply, 'T': wire.OptNoDataReply,
	'L': wire.OptNoHeaderReply, 'N': wire.OptNoEOHReply, 'B': wire.OptNoBodyReply,
}

// full is what most scripted milters agree to.
var full = agreed(6, offeredActions, wire.OptSkip, "")

// listen serves each connection of a listener until the test ends.
func listen(tb testing.TB, serve func(net.Conn)) backend.Address {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	tb.Cleanup(func() { l.Close(); wg.Wait() })
	return backend.Address{Network: "tcp", Name: l.Addr().String()}
}

// readSaid reads one packet of the server's.
func readSaid(r io.Reader) (said, error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return said{}, err
	}
	data := make([]byte, binary.BigEndian.Uint32(header[:])-1)
	_, err := io.ReadFull(r, data)
	return said{header[4], string(data)}, err
}

// start runs the milter.
func (s *scripted) start(tb testing.TB) backend.Address {
	tb.Helper()
	if s.agree.code == 0 {
		s.agree = full
	}
	return listen(tb, s.serve)
}

func (s *scripted) serve(conn net.Conn) {
	s.wg.Add(1)
	defer s.wg.Done()
	protocol := wire.OptProtocol(binary.BigEndian.Uint32([]byte(s.agree.data[8:])))
	for {
		p, err := readSaid(conn)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.told = append(s.told, p)
		s.mu.Unlock()
		answers := s.answers[p.code]
		switch p.code {
		case 'Q':
			return
		case 'D', 'A':
			continue
		case 'O':
			answers = []said{s.agree}
		default:
			if len(answers) == 0 && protocol&silentBy[p.code] == 0 {
				answers = []said{{code: 'c'}}
			}
		}
		for _, a := range answers {
			if _, err := conn.Write(a.bytes()); err != nil {
				return
			}
		}
	}
}

// heard gives what the milter was told, once the connections have ended.
func (s *scripted) heard() []said {
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.told)
}

// macros gives the macros that it was told.
func (s *scripted) macros() map[string]string {
	all := make(map[string]string)
	for _, p := range s.heard() {
		if p.code != 'D' {
			continue
		}
		list := strings.Split(strings.TrimSuffix(p.data[1:], "\x00"), "\x00")
		for i := 0; i+1 < len(list); i += 2 {
			all[list[i]] = list[i+1]
		}
	}
	return all
}

// noon is the time of the tests.
var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// newHandler gives a handler with the defaults.
func newHandler(tb testing.TB, address backend.Address) *Milter {
	tb.Helper()
	return &Milter{
		Address: address, MaxConnections: 20, ConnectTimeout: 5 * time.Second, MaxBody: 50 << 20,
		host: host{name: "mx.example.test", now: func() time.Time { return noon }, local: func(domain string) bool { return domain == "example.test" }},
		gate: backend.NewGate("the milter", 20), spoolDir: tb.TempDir(), budget: new(mail.SpoolBudget), room: spoolLimit, now: time.Now,
	}
}

const received = "Received: from client.example.org ([192.0.2.1])\r\n\tby mx.example.test with ESMTP\r\n\tid message1;\r\n\tSun, 01 Nov 2026 12:00:00 +0000\r\n"

const raw = "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nX-Twice: one\r\nSubject:  folded\r\n\tsubject\r\nX-Twice: two\r\n\r\nHello.\r\nBob\r\n"

// newTransaction gives one at the data stage, from coretest, with another message and
// the server's Received field.
func newTransaction(tb testing.TB, content string) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, mail.StageData, 1)
	m, err := mail.NewMessage([]byte(content))
	if err != nil {
		tb.Fatal(err)
	}
	tx.Message = m
	value, _ := strings.CutPrefix(strings.TrimSuffix(received, "\r\n"), "Received: ")
	tx.AddFieldBelow("Received", value)
	tx.Session.RemoteAddr = netip.MustParseAddrPort("192.0.2.1:4711")
	return tx
}

// text gives the message as it would be stored.
func text(tb testing.TB, tx *mail.Transaction) string {
	tb.Helper()
	r, err := tx.Rendered()
	if err != nil {
		tb.Fatal(err)
	}
	b, err := r.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := tx.Release(); err != nil && !errors.Is(err, net.ErrClosed) {
			tb.Error(err)
		}
	})
	return string(b)
}

func address(tb testing.TB, s string) mail.Address {
	tb.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// withoutDuration takes the duration off the end of a reason, which must have one.
func withoutDuration(tb testing.TB, reason string) string {
	tb.Helper()
	i := strings.LastIndex(reason, ", in ")
	if i < 0 {
		tb.Fatalf("the reason %q does not end in a duration", reason)
	}
	if _, err := time.ParseDuration(reason[i+len(", in "):]); err != nil {
		tb.Errorf("the reason %q does not end in a duration: %v", reason, err)
	}
	return reason[:i]
}

// serveQuiet is a milter that takes any message.
func serveQuiet(discard []byte) func(net.Conn) {
	return func(conn net.Conn) { serveLarge(conn, discard, nil, 0) }
}

// serveLarge takes a message of any size and gives as much back, without memory of its
// own.
func serveLarge(conn net.Conn, discard, piece []byte, size int) {
	write := func(b []byte) { _, _ = conn.Write(b) }
	agree, goesOn := agreed(6, offeredActions, 0, "").bytes(), said{code: 'c'}.bytes()
	var header [5]byte
	for {
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return
		}
		if n := binary.BigEndian.Uint32(header[:4]) - 1; n > 0 {
			if _, err := io.ReadFull(conn, discard[:n]); err != nil {
				return
			}
		}
		switch header[4] {
		case 'O':
			write(agree)
		case 'D', 'A', 'Q':
		case 'E':
			for sent := 0; sent < size; sent += len(piece) {
				write(piece)
			}
			write(goesOn)
		default:
			write(goesOn)
		}
	}
}

// answersOnce gives the same bytes whatever it is told, and closes.
func answersOnce(raw []byte) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := readSaid(conn); err != nil {
			return
		}
		_, _ = conn.Write(raw)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	}
}

// hanging is a milter that hangs at a step until the test ends, and tells when it is
// there.
func hanging(tb testing.TB, code byte) (at backend.Address, reached chan struct{}) {
	tb.Helper()
	release, reached := make(chan struct{}), make(chan struct{})
	at = listen(tb, hangsAt(code, reached, release))
	tb.Cleanup(func() { close(release) })
	return at, reached
}

// hangsAt goes on up to a step and then says nothing, or, for p, that it works on it.
func hangsAt(code byte, reached, release chan struct{}) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			p, err := readSaid(conn)
			if err != nil {
				return
			}
			answer := said{code: 'c'}
			switch {
			case p.code == code:
				close(reached)
				<-release
				return
			case p.code == 'D':
				continue
			case p.code == 'O':
				answer = full
			case p.code == 'E' && code == 'p':
				close(reached)
				for err == nil {
					_, err = conn.Write(said{code: 'p'}.bytes())
				}
				return
			}
			if _, err := conn.Write(answer.bytes()); err != nil {
				return
			}
		}
	}
}
