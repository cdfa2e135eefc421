package imap

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clientBytes is a connection whose client has sent all it ever will.
type clientBytes struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *clientBytes) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *clientBytes) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *clientBytes) Close() error                     { return nil }
func (c *clientBytes) SetReadDeadline(time.Time) error  { return nil }
func (c *clientBytes) SetWriteDeadline(time.Time) error { return nil }

// fenced runs a fence with a server behind it that says yes to all, and gives
// the lines that the server saw, the messages of APPEND, and what the client
// got.
func fenced(sent string, prepare func(*fence)) (seen, messages []string, got string) {
	conn := &clientBytes{in: strings.NewReader(sent)}
	f := newFence(conn, &Timeouts{Login: time.Hour, Idle: time.Hour, Command: time.Minute, Write: time.Minute}, capabilities{mechanisms: []string{"PLAIN"}, appendLimit: 1000})
	f.secured, f.authed = true, true
	if prepare != nil {
		prepare(f)
	}
	br := bufio.NewReader(f)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			break
		}
		line = strings.TrimSuffix(line, "\r\n")
		seen = append(seen, line)
		tag, _, _ := strings.Cut(line, " ")
		switch name, _ := f.out.pending(); name {
		case "IDLE", "AUTHENTICATE":
			_, _ = io.WriteString(f, "+ \r\n")
			line, _ := br.ReadString('\n')
			seen = append(seen, strings.TrimSuffix(line, "\r\n"))
		case "APPEND":
			if f.message.size <= 1000 {
				var message bytes.Buffer
				if err := f.receive(&message); err != nil {
					messages = append(messages, "error: "+err.Error())
				} else {
					messages = append(messages, message.String())
				}
			}
			_, _ = br.ReadString('\n')
		}
		_, _ = io.WriteString(f, tag+" OK done\r\n")
	}
	_ = f.Close()
	return seen, messages, conn.out.String()
}

func TestFenceFraming(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, sent     string
		seen, messages []string
		got            string
	}{
		{
			name: "plain commands pass, empty lines do not",
			sent: "a NOOP\r\n\r\nb SELECT \"IN{BOX\"\r\nc uid fetch 1 FLAGS\n",
			seen: []string{"a NOOP", `b SELECT "IN{BOX"`, "c UID FETCH 1 FLAGS"},
			got:  "a OK done\r\nb OK done\r\nc OK done\r\n",
		},
		{
			name: "a literal becomes a quoted string",
			sent: "a RENAME {3}\r\na\"\\ {5+}\r\nb{1} \r\n",
			seen: []string{`a RENAME "a\"\\" "b{1} "`},
			got:  "+ Go ahead\r\na OK done\r\n",
		},
		{
			name: "a message stays behind",
			sent: "a APPEND {5}\r\nINBOX (\\Seen) {4+}\r\nX\r\nY\r\nb NOOP\r\n",
			seen: []string{`a APPEND "INBOX" (\Seen) {0}`, "b NOOP"}, messages: []string{"X\r\nY"},
			got: "+ Go ahead\r\na OK done\r\nb OK done\r\n",
		},
		{
			name: "a message that is waited for",
			sent: "a APPEND INBOX {4}\r\nX\r\nY\r\nb NOOP\r\n",
			seen: []string{`a APPEND INBOX {0}`, "b NOOP"}, messages: []string{"X\r\nY"},
			got: "+ Send the message\r\na OK done\r\nb OK done\r\n",
		},
		{
			name: "a second message is refused and dropped",
			sent: "a APPEND INBOX {1+}\r\nX {15+}\r\nX CREATE pwned\r\n\r\nb NOOP\r\n",
			seen: []string{`a APPEND INBOX {0}`, "b NOOP"}, messages: []string{"error: BAD [CLIENTBUG] APPEND takes one message"},
			got: "a OK done\r\nb OK done\r\n",
		},
		{
			name: "a refused message does not run as commands",
			sent: "a APPEND INBOX {1022+}\r\nX: CREATE pwned\r\nX CREATE pwned\r\n" + strings.Repeat("x", 989) + "\r\nb NOOP\r\n",
			seen: []string{`a APPEND INBOX {0}`, "b NOOP"},
			got:  "a OK done\r\nb OK done\r\n",
		},
		{
			name: "a literal of an unknown command does not run",
			sent: "a FROB {17+}\r\nX CREATE pwned\r\n \r\nb NOOP\r\n",
			seen: []string{"b NOOP"},
			got:  "a BAD [CLIENTBUG] Unknown command\r\nb OK done\r\n",
		},
		{
			name: "a literal in place of a name does not run",
			sent: "a UID {14+}\r\nX CREATE pwned {14+}\r\nX CREATE pwned\r\nb NOOP\r\n",
			seen: []string{"b NOOP"},
			got:  "* BAD [CLIENTBUG] A command is a tag, a space and a name\r\nb OK done\r\n",
		},
		{
			name: "a literal where none belongs does not run",
			sent: "a NOOP {14+}\r\nX CREATE pwned\r\nb NOOP\r\n",
			seen: []string{`a NOOP "X CREATE pwned"`, "b NOOP"},
			got:  "a OK done\r\nb OK done\r\n",
		},
		{
			name: "a literal with a line break is refused",
			sent: "a SEARCH TEXT {18+}\r\nX\r\nX CREATE pwned\r\n\r\nb NOOP\r\n",
			seen: []string{"b NOOP"},
			got:  "a BAD [CLIENTBUG] A literal of this command cannot have NUL, CR or LF\r\nb OK done\r\n",
		},
		{
			name: "a quoted string cannot go over a line end",
			sent: "a SELECT \"x{3+}\r\nb NOOP\r\n",
			seen: []string{"b NOOP"},
			got:  "a BAD [CLIENTBUG] Quoted string without an end\r\nb OK done\r\n",
		},
		{
			name: "braces inside a line",
			sent: "a SELECT {3} \r\nb SELECT {3}x\r\nc NOOP\r\n",
			seen: []string{"c NOOP"},
			got:  "a BAD [CLIENTBUG] A literal is announced at the end of a line\r\nb BAD [CLIENTBUG] A literal is announced at the end of a line\r\nc OK done\r\n",
		},
		{
			name: "CR inside a line",
			sent: "a NOOP\rX CREATE pwned\r\nb NOOP\r\n",
			seen: []string{"b NOOP"},
			got:  "* BAD [CLIENTBUG] A command is a tag, a space and a name\r\nb OK done\r\n",
		},
		{
			name: "a literal that is too long for its command",
			sent: "a LOGOUT {999999999999}\r\nb SELECT {99999}\r\nc NOOP\r\n",
			seen: []string{"c NOOP"},
			got:  "a BAD [TOOBIG] Literal is too long for this command\r\nb BAD [TOOBIG] Literal is too long for this command\r\nc OK done\r\n",
		},
		{
			name: "more than anybody would read",
			sent: "a SELECT {999999999999+}\r\nX CREATE pwned\r\n",
			got:  "a BAD [TOOBIG] Literal is too long for this command\r\n* BYE Literal is too large\r\n",
		},
		{
			name: "a size beyond all numbers",
			sent: "a SELECT {99999999999999999999+}\r\nX CREATE pwned\r\n",
			got:  "a BAD [TOOBIG] Literal is too long for this command\r\n* BYE Literal is too large\r\n",
		},
		{
			name: "a line that is too long",
			sent: "a SELECT " + strings.Repeat("x", 60000) + "\r\nb NOOP\r\n",
			seen: []string{"b NOOP"},
			got:  "* BAD [TOOBIG] Command is too long\r\nb OK done\r\n",
		},
		{
			name: "a literal at the end of a line that is too long does not run",
			sent: "a SELECT " + strings.Repeat("x", 60000) + "{14+}\r\nX CREATE pwned\r\n" +
				"b RENAME {1+}\r\nx " + strings.Repeat("x", 60000) + "{14+}\r\nX CREATE pwned " + strings.Repeat("x", 60000) + " {14+}\r\nX CREATE pwned\r\n" +
				"c APPEND INBOX {1+}\r\nx" + strings.Repeat("x", 60000) + "{14+}\r\nX CREATE pwned\r\nd NOOP\r\n",
			seen:     []string{"c APPEND INBOX {0}", "d NOOP"},
			messages: []string{"error: BAD [CLIENTBUG] APPEND takes one message"},
			got:      "* BAD [TOOBIG] Command is too long\r\nb BAD [TOOBIG] Command is too long\r\nc OK done\r\nd OK done\r\n",
		},
		{
			name: "IDLE always ends with DONE",
			sent: "a IDLE\r\nb NOOP\r\nc NOOP\r\n",
			seen: []string{"a IDLE", "DONE", "c NOOP"},
			got:  "+ \r\na BAD [CLIENTBUG] IDLE ends with DONE and nothing else\r\nc OK done\r\n",
		},
		{
			name: "IDLE ends with DONE when the connection does",
			sent: "a IDLE\r\n",
			seen: []string{"a IDLE", "DONE"},
			got:  "+ \r\na OK done\r\n* BYE Connection lost\r\n",
		},
		{
			name: "garbage",
			sent: "\x00\x01\xff\r\n(((( \r\n NOOP\r\na\r\na+ NOOP\r\nb NOOP\r\n",
			seen: []string{"b NOOP"},
			got:  strings.Repeat("* BAD [CLIENTBUG] A command is a tag, a space and a name\r\n", 5) + "b OK done\r\n",
		},
		{
			name: "commands that need no server",
			sent: "a CAPABILITY\r\nb ID (\"name\" {4+}\r\ncurl)\r\nc ENABLE IMAP4rev2\r\nd ID x\r\ne LOGOUT\r\n",
			got: "* CAPABILITY " + always + afterLogin + "1000\r\na OK CAPABILITY completed\r\n" +
				"* ID (\"name\" \"mox-like\")\r\nb OK ID completed\r\n* ENABLED\r\nc OK ENABLE completed\r\n" +
				"d BAD [CLIENTBUG] ID takes a list or NIL\r\n* BYE Logging out\r\ne OK LOGOUT completed\r\n",
		},
		{
			name: "too many syntax errors",
			sent: strings.Repeat("?\r\n", maxBad+5),
			got:  strings.Repeat("* BAD [CLIENTBUG] A command is a tag, a space and a name\r\n", maxBad+1) + "* BYE Too many syntax errors\r\n",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			seen, messages, got := fenced(c.sent, nil)
			if diff := cmp.Diff(c.seen, seen); diff != "" {
				t.Errorf("the server saw (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.messages, messages); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.got, got); diff != "" {
				t.Errorf("the client got (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFenceBeforeLogin(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, sent string
		secured    bool
		seen       []string
		got        string
	}{
		{
			name: "no password in the clear, not even asked for",
			sent: "a LOGIN alice {6}\r\nb AUTHENTICATE PLAIN\r\nc CAPABILITY\r\nd LOGIN alice {6+}\r\nsecret\r\n",
			got: "a NO [PRIVACYREQUIRED] Logging in needs TLS\r\nb NO [PRIVACYREQUIRED] Logging in needs TLS\r\n" +
				"* CAPABILITY " + always + " LOGINDISABLED\r\nc OK CAPABILITY completed\r\n" +
				"d NO [PRIVACYREQUIRED] Logging in needs TLS\r\n* BYE Too many failed logins\r\n",
		},
		{
			name:    "nothing but logging in",
			secured: true,
			sent:    "a SELECT INBOX\r\nb APPEND INBOX {6+}\r\nX NOOP\r\nc LOGIN alice {6}\r\nsecret\r\n",
			seen:    []string{`c LOGIN alice "secret"`},
			got:     "a BAD [CLIENTBUG] Log in first\r\nb BAD [CLIENTBUG] Log in first\r\n+ Go ahead\r\nc OK done\r\n",
		},
		{
			name:    "another protocol",
			secured: true,
			sent:    "POST / HTTP/1.1\r\na LOGIN alice secret\r\n",
			got:     "* BYE This is an IMAP server\r\n",
		},
		{
			name: "another version of it",
			sent: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
			got:  "* BYE This is an IMAP server\r\n",
		},
		{
			name:    "a few errors",
			secured: true,
			sent:    "a XLIST\r\nb FROB HTTP/1.1 x\r\nc\r\nd LOGIN alice HTTP/1.1\r\n",
			seen:    []string{"d LOGIN alice HTTP/1.1"},
			got:     "a BAD [CLIENTBUG] Unknown command\r\nb BAD [CLIENTBUG] Unknown command\r\n* BAD [CLIENTBUG] A command is a tag, a space and a name\r\nd OK done\r\n",
		},
		{
			name:    "too many errors",
			secured: true,
			sent:    strings.Repeat("a FROB\r\n", maxEarlyBad+1) + "b LOGIN alice secret\r\n",
			got:     strings.Repeat("a BAD [CLIENTBUG] Unknown command\r\n", maxEarlyBad+1) + "* BYE Too many syntax errors\r\n",
		},
		{
			name:    "long literals are not asked for",
			secured: true,
			sent:    "a LOGIN {4097}\r\nb LOGIN alice {4097}\r\nc LOGIN alice {6}\r\nsecret\r\n",
			seen:    []string{`c LOGIN alice "secret"`},
			got: "a BAD [TOOBIG] Literal is too long for this command\r\nb BAD [TOOBIG] Literal is too long for this command\r\n" +
				"+ Go ahead\r\nc OK done\r\n",
		},
		{
			name:    "long literals that come nevertheless",
			secured: true,
			sent:    "a LOGIN {4097+}\r\n" + strings.Repeat("x", 4097) + " y\r\nb NOOP\r\n",
			got:     "a BAD [TOOBIG] Literal is too long for this command\r\n* BYE Literal is too large\r\n",
		},
		{
			name: "long literals of what is refused",
			sent: "a FROB {4097+}\r\n" + strings.Repeat("x", 4097) + "\r\nb NOOP\r\n",
			got:  "a BAD [CLIENTBUG] Unknown command\r\n* BYE Literal is too large\r\n",
		},
		{
			name: "logins without TLS count",
			sent: strings.Repeat("a LOGIN alice secret\r\n", 5),
			got:  strings.Repeat("a NO [PRIVACYREQUIRED] Logging in needs TLS\r\n", 3) + "* BYE Too many failed logins\r\n",
		},
		{
			name:    "a SASL response that is too long",
			secured: true,
			sent:    "a AUTHENTICATE PLAIN\r\n" + strings.Repeat("A", 5000) + "\r\n",
			seen:    []string{"a AUTHENTICATE PLAIN", "*"},
			got:     "+ \r\na BAD [CLIENTBUG] Authentication response is too long\r\n",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			seen, _, got := fenced(c.sent, func(f *fence) { f.secured, f.authed, f.logins = c.secured, false, 3 })
			if diff := cmp.Diff(c.seen, seen); diff != "" {
				t.Errorf("the server saw (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.got, got); diff != "" {
				t.Errorf("the client got (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFenceDeadlines runs in a bubble, where time passes at once.
func TestFenceDeadlines(t *testing.T) {
	cases := []struct {
		name   string
		authed bool
		sent   string
		after  time.Duration
		got    string
	}{
		{"no login", false, "", time.Minute, "* BYE Logging in took too long\r\n"},
		{"idle", true, "", 30 * time.Minute, "* BYE Idle for too long, connect again\r\n"},
		{"half a command", true, "a NO", 10 * time.Second, "* BYE Waited too long for the rest of a command\r\n"},
		{"half a login before TLS is done with", false, "a LOG", 10 * time.Second, "* BYE Waited too long for the rest of a command\r\n"},
		{"a literal that never comes", true, "a SELECT {5}\r\n", 10 * time.Second, "+ Go ahead\r\n* BYE Waited too long for the rest of a command\r\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				began := time.Now()
				f := newFence(server, &Timeouts{Login: time.Minute, Idle: 30 * time.Minute, Command: 10 * time.Second, Write: time.Minute}, capabilities{appendLimit: 1000})
				f.secured, f.authed = true, c.authed
				ended := make(chan error, 1)
				go func() {
					_, err := f.Read(make([]byte, 100))
					_ = f.Close()
					ended <- err
				}()
				go func() { _, _ = io.WriteString(client, c.sent) }()
				got, err := io.ReadAll(client)
				if err != nil {
					t.Errorf("read: %v", err)
				}
				if err := <-ended; !errors.Is(err, io.EOF) {
					t.Errorf("server got %v, want EOF", err)
				}
				if string(got) != c.got {
					t.Errorf("client got %q, want %q", got, c.got)
				}
				if took := time.Since(began); took != c.after {
					t.Errorf("it took %s, want %s", took, c.after)
				}
			})
		})
	}
}

// TestFenceSlowLogin: no literal, whether it is taken or dropped, makes the time
// for logging in longer.
func TestFenceSlowLogin(t *testing.T) {
	for _, sent := range []string{"a LOGIN {4000+}\r\n", "a FROB {4000+}\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			began, done := time.Now(), make(chan struct{})
			f := newFence(server, &Timeouts{Login: time.Minute, Idle: time.Hour, Command: 2 * time.Minute, Write: time.Minute}, capabilities{})
			f.secured = true
			go func() {
				_, _ = io.WriteString(client, sent)
				drip(client, done)
			}()
			go func() { _, _ = io.Copy(io.Discard, client) }()
			if _, err := f.Read(make([]byte, 100)); !errors.Is(err, io.EOF) {
				t.Errorf("%q: server got %v, want EOF", sent, err)
			}
			if took := time.Since(began); took != time.Minute {
				t.Errorf("%q took %s, want a minute", sent, took)
			}
			close(done)
			_ = f.Close()
			_ = client.Close()
		})
	}
}

// drip sends a byte now and then.
func drip(w io.Writer, done <-chan struct{}) {
	step := time.NewTicker(5 * time.Second)
	defer step.Stop()
	for {
		select {
		case <-done:
			return
		case <-step.C:
			_, _ = w.Write([]byte{'x'})
		}
	}
}

// TestFenceSlowMessage: a client that sends a byte now and then meets every
// deadline of a step, but not the least speed.
func TestFenceSlowMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		began, done := time.Now(), make(chan struct{})
		f := newFence(server, &Timeouts{Idle: time.Hour, Command: 10 * time.Second, Write: time.Minute}, capabilities{appendLimit: 1 << 20})
		f.secured, f.authed = true, true
		go func() {
			_, _ = io.WriteString(client, "a APPEND INBOX {10240+}\r\n")
			drip(client, done)
		}()
		if _, err := f.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		err := f.receive(io.Discard)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("receive gave %v, want a timeout", err)
		}
		if took, want := time.Since(began), 20*time.Second; took != want {
			t.Errorf("it took %s, want %s", took, want)
		}
		close(done)
		_ = f.Close()
		_ = client.Close()
	})
}

func TestFenceGathers(t *testing.T) {
	t.Parallel()
	conn := &countingConn{clientBytes: clientBytes{in: strings.NewReader("a NOOP\r\nb NOOP\r\n")}}
	f := newFence(conn, &Timeouts{Idle: time.Hour, Command: time.Minute, Write: time.Minute}, capabilities{})
	f.authed = true
	br := bufio.NewReader(f)
	if _, err := br.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		_, _ = io.WriteString(f, "* 1 FETCH (FLAGS ())\r\n")
	}
	if _, err := br.ReadString('\n'); !errors.Is(err, errConfused) {
		t.Errorf("reading on before the tagged response gave %v, want errConfused", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if conn.out.Len() != 22000 || conn.writes > 2 {
		t.Errorf("%d bytes in %d writes, want 22000 in 2 at most", conn.out.Len(), conn.writes)
	}
}

type countingConn struct {
	clientBytes
	writes int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	return c.clientBytes.Write(p)
}

// FuzzFence: whatever a client sends, the server behind sees lines of commands
// that it knows, with quoted strings that end and without literals.
func FuzzFence(f *testing.F) {
	for _, seed := range []string{
		"a NOOP\r\n", "a LOGIN {3}\r\nfoo {3+}\r\nbar\r\n", "a APPEND x {3+}\r\nabc\r\nb NOOP\r\n", "a APPEND x (\\Seen) ~{3}\r\nabc {5+}\r\n",
		"a UID FETCH 1:* (BODY[HEADER.FIELDS ({4+}\r\nFrom)])\r\n", "a IDLE\r\nDONE\r\n", "a AUTHENTICATE PLAIN\r\nAAAA\r\n",
		"a SELECT \"x\\\"{1}\"\r\n", "a X {99999999999999999999+}\r\n", "a ID {1+}\r\n\n\r\n", "\"{1+}\r\na \"{1+}\r\n",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, sent string, authed bool) {
		seen, _, _ := fenced(sent, func(f *fence) { f.authed = authed })
		continuation := false
		for _, line := range seen {
			if continuation {
				continuation = false
				continue
			}
			if strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("server saw a broken line: %q", line)
			}
			r, ok := parseRequest([]byte(line))
			if !ok || !forServer[r.name] {
				t.Fatalf("server saw %q", line)
			}
			continuation = r.name == "IDLE" || r.name == "AUTHENTICATE"
			args := string(r.args)
			if r.name == "APPEND" {
				args = strings.TrimSuffix(args, "{0}")
			}
			if _, lit, problem := splitLiteral([]byte(args)); problem != "" || lit.present {
				t.Fatalf("server saw %q: %s", line, problem)
			}
		}
	})
}
