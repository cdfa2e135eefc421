// Package corpus_test sends hundreds of messages through a server with all that
// judges mail, clamd and spamd among it, and holds what becomes of each against a
// golden file: the reply, the mailbox, what each handler said and why, and the
// fields that were added.
//
// make.py makes the messages; -update writes the golden files.
package corpus_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
	"github.com/mox-like/mox-like/modules/accounts"
	"github.com/mox-like/mox-like/modules/mailbox"
	_ "github.com/mox-like/mox-like/modules/standard"
	"github.com/mox-like/mox-like/test/daemon"
)

var update = flag.Bool("update", false, "write the golden files")

const user = "user@example.test"

// config is a server with two listeners: one that asks who sent a message, one that
// looks into it too.
const config = `
server {
  hostname = "mx.example.test"
}
store "sqlite" {}
dns {
  servers  = [%q]
  timeout  = "2s"
  attempts = 1
}
domain "example.test" {}

chain "sender" {
  spf {
    fail     = "tag"
    softfail = "tag"
  }
  dkim_verify {}
  arc_verify {
    trusted = ["lists.example.com"]
  }
  dmarc {}
}

listener "smtp" "mx" {
  address = "127.0.0.1:0"
  tls     = "off"
  proxy_protocol { from = ["127.0.0.0/8"] }
  chain {
    use "sender" {}
    authres {}
    score {}
    deliver {}
  }
}

listener "smtp" "scan" {
  address = "127.0.0.1:0"
  tls     = "off"
  proxy_protocol { from = ["127.0.0.0/8"] }
  chain {
    use "sender" {}
    attachments {
      encrypted = "quarantine"
    }
    clamav {
      address  = "unix:%s"
      on_error = "defer"
      timeout  = "1m"
    }
    spamassassin {
      address  = "unix:%s"
      on_error = "defer"
      timeout  = "1m"
    }
    authres {}
    score {}
    deliver {}
  }
}
`

// rules are those of spamd beside Debian's, which think little of addresses that are
// for documentation.
const rules = `
use_bayes 0
body CORPUS_LANTERNS /one hundred lanterns/
score CORPUS_LANTERNS 5.5
body CORPUS_ROPES /one thousand ropes/i
score CORPUS_ROPES 3.0
body CORPUS_LUNCH /lunch is at noon/i
score CORPUS_LUNCH -0.3
score RCVD_ILLEGAL_IP 0
score RDNS_NONE 0.1
`

// now is the time of the corpus.
var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// site is the server with its user's mail.
type site struct {
	*core.Server
	account *mailbox.Account
	seen    map[string]uint32 // messages in each mailbox
}

func newSite(tb testing.TB) *site {
	tb.Helper()
	zone, err := os.ReadFile(filepath.Join("testdata", "zone"))
	if err != nil {
		tb.Fatal(err)
	}
	names := dnstest.Serve(tb, string(zone))
	viruses := daemon.Run(tb, daemon.Clamd{}).Unix.Name
	spam := daemon.Run(tb, daemon.Spamd{Settings: rules}).Unix.Name
	source := fmt.Sprintf(config, names.Addr(), viruses, spam)
	s := &site{seen: make(map[string]uint32), Server: coretest.Serve(tb, source, coretest.Options{OnDisk: true, Now: func() time.Time { return now }})}
	err = coretest.Service[*accounts.Accounts](tb, s).Add(tb.Context(), user, "a long password")
	if err == nil {
		s.account, err = coretest.Service[*mailbox.Service](tb, s).Open(tb.Context(), user)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// message is a file of the corpus: how it comes, and the message as it goes over
// the wire.
type message struct {
	listener, helo, from, to string
	ip                       netip.Addr
	utf8                     bool
	content                  []byte
}

func read(tb testing.TB, path string) message {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	head, content, _ := bytes.Cut(text, []byte("\n\n"))
	words := make(map[string]string)
	for line := range strings.Lines(string(head) + "\n") {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
		words[strings.TrimSuffix(name, ":")] = value
	}
	m := message{listener: words["listener"], helo: words["helo"], from: words["from"], to: words["to"], utf8: words["utf8"] == "yes", content: expand(tb, content)}
	if m.ip, err = netip.ParseAddr(words["ip"]); err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	return m
}

// send sends a message and gives the last reply.
func (s *site) send(tb testing.TB, m message) string {
	tb.Helper()
	conn, err := net.Dial("tcp", coretest.Address(tb, s.Server, m.listener))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		tb.Fatal(err)
	}
	family, here := "TCP4", "203.0.113.25"
	if m.ip.Is6() {
		family, here = "TCP6", "2001:db8::25"
	}
	if _, err := fmt.Fprintf(conn, "PROXY %s %s %s 40000 25\r\n", family, m.ip, here); err != nil {
		tb.Fatal(err)
	}
	more := ""
	if m.utf8 {
		more = " SMTPUTF8"
	}
	wire := append(bytes.ReplaceAll(append([]byte("\r\n"), m.content...), []byte("\r\n."), []byte("\r\n..")), "\r\n.\r\n"...)[2:]
	if bytes.HasSuffix(m.content, []byte("\r\n")) {
		wire = append(wire[:len(wire)-5], ".\r\n"...)
	}
	client := textproto.NewConn(conn)
	code, text, err := client.ReadResponse(0)
	for _, line := range [][]byte{
		[]byte("EHLO " + m.helo + "\r\n"), []byte("MAIL FROM:<" + m.from + ">" + more + "\r\n"), []byte("RCPT TO:<" + m.to + ">\r\n"), []byte("DATA\r\n"), wire,
	} {
		if err != nil || code >= 400 {
			break
		}
		if _, err = conn.Write(line); err == nil {
			code, text, err = client.ReadResponse(0)
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	_ = client.PrintfLine("QUIT")    // the server may have ended the session
	_, _ = io.Copy(io.Discard, conn) // until it has
	return fmt.Sprintf("%d %s", code, text)
}

// duration is how long something took, as reasons say it.
var duration = regexp.MustCompile(`\bin \d[\d.]*(µs|ms|s)\b`)

// version is that of the clamd of this machine, which is asked for behind the messages.
var version = regexp.MustCompile(`, by ClamAV [^,\n]+`)

var identifier = regexp.MustCompile(`\b[0-9a-hjkmnp-tv-z]{18}\b`)

// report tells what became of a message.
func (s *site) report(tb testing.TB, m message, reply string) string {
	tb.Helper()
	id := identifier.FindString(reply)
	var b strings.Builder
	fmt.Fprintf(&b, "reply: %s\n", reply)
	record, err := s.Traces().Get(tb.Context(), id)
	if err != nil {
		tb.Fatalf("no trace of %q: %v", reply, err)
	}
	action, handler := record.Decision()
	fmt.Fprintf(&b, "decision: %s by %q\n", action, handler)
	for _, e := range record.Entries {
		fmt.Fprintf(&b, "%s %s: %s", e.Stage, e.Handler, e.Action)
		if e.Note != "" {
			fmt.Fprintf(&b, " (%s)", e.Note)
		}
		fmt.Fprintf(&b, ": %s\n", e.Reason)
	}
	if strings.HasPrefix(reply, "250") {
		box, head := s.stored(tb, m)
		fmt.Fprintf(&b, "mailbox: %s\n%s", box, head)
	}
	return scrub(b.String(), record)
}

// scrub takes out what is another each time.
func scrub(text string, record *trace.Record) string {
	text = strings.ReplaceAll(text, record.Session, "SESSION")
	text = identifier.ReplaceAllString(text, "ID")
	text = version.ReplaceAllString(text, "")
	text = duration.ReplaceAllString(text, "in TIME")
	return strings.ReplaceAll(text, "\r\n", "\n")
}

// stored gives the mailbox that has one message more than before, and the fields
// with which the message in it did not come.
func (s *site) stored(tb testing.TB, m message) (box, added string) {
	tb.Helper()
	for _, box := range []string{"INBOX", "Junk"} {
		text := s.newest(tb, box)
		if text == nil {
			continue
		}
		stored, err := mail.NewMessage(text)
		if err != nil {
			tb.Fatalf("parse stored message: %v", err)
		}
		var b strings.Builder
		for _, f := range stored.Header.Fields {
			if !bytes.Contains(m.content, f.Raw) {
				b.Write(f.Raw)
			}
		}
		return box, b.String()
	}
	tb.Fatal("the message is in no mailbox")
	return "", ""
}

// newest gives the last message of a mailbox that has grown, else nil.
func (s *site) newest(tb testing.TB, box string) (text []byte) {
	tb.Helper()
	v, err := s.account.Select(tb.Context(), box, &imap.SelectOptions{ReadOnly: true})
	if err != nil {
		tb.Fatal(err)
	}
	defer v.Close()
	n := v.NumMessages()
	if n == s.seen[box] {
		return nil
	}
	s.seen[box] = n
	err = v.Fetch(tb.Context(), imap.SeqSetNum(n), mailbox.Items{Body: true}, func(m *mailbox.Message) error {
		body, err := m.OpenBody(tb.Context())
		if err != nil {
			return err
		}
		text, err = io.ReadAll(io.NewSectionReader(body, 0, m.Size))
		return errors.Join(err, body.Close())
	})
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func TestCorpus(t *testing.T) {
	s := newSite(t)
	names := corpus(t)
	if len(names) < 200 {
		t.Fatalf("the corpus has %d messages, want 200 or more", len(names))
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			m := read(t, filepath.Join("testdata", name+".eml"))
			got := s.report(t, m, s.send(t, m))
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		})
	}
}

// corpus gives the names of the messages.
func corpus(tb testing.TB) (names []string) {
	tb.Helper()
	err := filepath.WalkDir("testdata", func(path string, _ fs.DirEntry, err error) error {
		name, found := strings.CutSuffix(strings.TrimPrefix(path, "testdata/"), ".eml")
		if found {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return names
}

// processorTime is that of the server and the test together, without the daemons.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkMessage takes each message in. None may cost more than others by its form
// alone: cpu-ms is what it cost here, ns what it took with the daemons.
func BenchmarkMessage(b *testing.B) {
	s := newSite(b)
	for _, name := range corpus(b) {
		m := read(b, filepath.Join("testdata", name+".eml"))
		b.Run(name, func(b *testing.B) {
			before := processorTime(b)
			for b.Loop() {
				s.send(b, m)
			}
			b.ReportMetric((processorTime(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
		})
	}
}
