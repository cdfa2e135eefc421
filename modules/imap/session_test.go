package imap_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/coretest"
)

// TestIdle: changes by other sessions and by delivery are told at once.
func TestIdle(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	user := account(t, s, "alice")
	fill(t, s, user, 2)
	idler, other := login(t, s, user), login(t, s, user)
	idler.run("-> b SELECT INBOX\n<* b OK\n-> c IDLE\n<~ \\+ .*")
	deliver(t, s, user, simple)
	idler.run("<- * 3 EXISTS")
	other.run("-> b SELECT INBOX\n<* b OK\n-> c STORE 1 +FLAGS.SILENT (\\Deleted)\n<- c OK STORE completed")
	idler.run(`<~ \* 1 FETCH \(UID 1 FLAGS \(.*\\Deleted.*\)\)`)
	other.run("-> d EXPUNGE\n<- * 1 EXPUNGE\n<- d OK EXPUNGE completed")
	idler.run(`
		<- * 1 EXPUNGE
		-> DONE
		<- c OK IDLE completed
		-> d FETCH 1 UID
		<- * 1 FETCH (UID 2)
		<- d OK FETCH completed`)
	idler.run("-> e IDLE\n<~ \\+ .*")
	other.run("-> e APPEND INBOX {6+}\n-> a: b\\r\\n\n<- * 3 EXISTS\n<~ e OK .*")
	idler.run("<- * 3 EXISTS\n-> done\n<- e OK IDLE completed")
}

// TestIdleWithoutMailbox: IDLE is allowed before SELECT.
func TestIdleWithoutMailbox(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	c := login(t, s, account(t, s, "alice"))
	c.run("-> b IDLE\n<~ \\+ .*\n-> DONE\n<- b OK IDLE completed")
}

// TestConcurrentExpunge: numbers stay as the client knows them until it is told
// otherwise, which must not happen during FETCH, STORE and SEARCH.
func TestConcurrentExpunge(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	user := account(t, s, "alice")
	fill(t, s, user, 5)
	one, two := login(t, s, user), login(t, s, user)
	one.run("-> b SELECT INBOX\n<* b OK")
	two.run(`
		-> b SELECT INBOX
		<* b OK
		-> c STORE 2,3 +FLAGS.SILENT (\Deleted)
		<- c OK STORE completed
		-> d EXPUNGE
		<- * 2 EXPUNGE
		<- * 2 EXPUNGE
		<- d OK EXPUNGE completed`)
	one.run(`
		-> c FETCH 4:5 UID
		<- * 4 FETCH (UID 4)
		<- * 5 FETCH (UID 5)
		<- c OK FETCH completed
		-> d STORE 4 +FLAGS.SILENT (\Flagged)
		<- d OK STORE completed
		-> e SEARCH FLAGGED
		<- * SEARCH 4
		<- e OK SEARCH completed
		-> f UID FETCH 4 FLAGS
		<~ \* 4 FETCH \(UID 4 FLAGS \(.*\\Flagged.*\)\)
		<- * 2 EXPUNGE
		<- * 2 EXPUNGE
		<- f OK UID FETCH completed
		-> g FETCH 2:* UID
		<- * 2 FETCH (UID 4)
		<- * 3 FETCH (UID 5)
		<- g OK FETCH completed`)
	two.run(`
		-> e NOOP
		<~ \* 2 FETCH \(UID 4 FLAGS \(.*\\Flagged.*\)\)
		<- e OK NOOP completed`)
}

// TestMailboxRemoved: a client whose mailbox another session deletes is sent
// away, not left with numbers that mean nothing.
func TestMailboxRemoved(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	user := account(t, s, "alice")
	one, two := login(t, s, user), login(t, s, user)
	one.run("-> b CREATE Short\n<- b OK CREATE completed\n-> c SELECT Short\n<* c OK\n-> d IDLE\n<~ \\+ .*")
	two.run("-> b DELETE Short\n<- b OK DELETE completed")
	one.run("<* * BYE Mailbox or account was removed")
	one.closed()
}

// TestOwnMailboxRemoved: who removes the mailbox that is selected learns that it
// was done before the session ends.
func TestOwnMailboxRemoved(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	user := account(t, s, "alice")
	fill(t, s, user, 1)
	cases := []struct{ name, script string }{
		{"rename", "-> b SELECT INBOX\n<* b OK\n-> c RENAME INBOX Old\n<- c OK RENAME completed"},
		{"delete", "-> b SELECT Old\n<* b OK\n-> c DELETE Old\n<- c OK DELETE completed"},
	}
	for _, c := range cases {
		t.Log(c.name)
		one := login(t, s, user)
		one.run(c.script + "\n<- * BYE Mailbox or account was removed")
		one.closed()
	}
}

func TestAccountRemoved(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	user := account(t, s, "alice")
	c := login(t, s, user)
	c.run("-> b SELECT INBOX\n<* b OK")
	accounts := coretest.Service[interface {
		Remove(ctx context.Context, address string) error
	}](t, s)
	if err := accounts.Remove(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	c.run("-> c CREATE again\n<~ c NO .*\n<* * BYE")
	c.closed()
}

// TestLimits: too many connections of one network.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := serve(t, "limits {\nconnections = 3\nconnections_per_network = 2\n}")
	first, second := connect(t, s), connect(t, s)
	first.line()
	second.line()
	third := dial(t, coretest.Address(t, s, "imaps"))
	third.closed()
	first.run("-> a LOGOUT\n<* a OK")
	first.closed()
	// The place is free as soon as the session has ended, which is not yet when
	// the client sees it.
	for {
		conn, err := net.Dial("tcp", coretest.Address(t, s, "imaps"))
		if err != nil {
			t.Fatal(err)
		}
		c := &client{t: t, conn: conn}
		if c.tryTLS() {
			c.run("<* * OK")
			break
		}
	}
}

// TestReload: sessions of the old configuration still count under the new one.
func TestReload(t *testing.T) {
	t.Parallel()
	for _, limits := range []string{"connections = 1\nconnections_per_network = 1", "connections_per_network = 1"} {
		s := serve(t, "limits {\n"+limits+"\n}")
		c := login(t, s, account(t, s, "alice"))
		c.send("b NOOP\r\nc NO")
		c.run("<- b OK NOOP completed")
		if ds, _, err := s.Reload(t.Context()); err != nil {
			t.Fatalf("reload: %v %v", err, ds.Err())
		}
		dial(t, coretest.Address(t, s, "imaps")).closed()
		c.run("-> OP\n<- c OK NOOP completed\n<* * BYE")
		c.closed()
		for !dial(t, coretest.Address(t, s, "imaps")).tryTLS() {
		}
	}
}

// TestHandshakeTimeout: who does not begin TLS is cut off long before a login
// would be too late.
func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	s := serve(t, "tls = \"starttls\"\ntimeouts { handshake = \"1s\" }")
	begun := dial(t, coretest.Address(t, s, "imaps"))
	begun.run("<* * OK\n-> a STARTTLS\n<* a OK")
	implicit := serve(t, "timeouts { handshake = \"1s\" }")
	dial(t, coretest.Address(t, implicit, "imaps")).closed()
	begun.closed()
}

// TestDrain: idle clients get a BYE when the server stops, in IDLE too.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	user := account(t, s, "alice")
	waiting, idling, fresh := login(t, s, user), login(t, s, user), connect(t, s)
	fresh.line()
	idling.run("-> b SELECT INBOX\n<* b OK\n-> c IDLE\n<~ \\+ .*")
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.WithoutCancel(t.Context())) }()
	for _, c := range []*client{waiting, idling, fresh} {
		c.run("<* * BYE")
		c.closed()
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
}

// TestDrainCutsOff: who does not leave in time is cut off.
func TestDrainCutsOff(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	c := login(t, s, account(t, s, "alice"))
	c.send("b NOOP\r\nc NO")
	c.run("<- b OK NOOP completed")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 100*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	c.closed()
}

// TestWithoutTLS: a listener without TLS lets nobody in.
func TestWithoutTLS(t *testing.T) {
	t.Parallel()
	s := serve(t, "tls = \"off\"")
	dial(t, coretest.Address(t, s, "imaps")).run(`
		<- * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID LOGINDISABLED] IMAP server ready
		-> a STARTTLS
		<~ a NO .*
		-> b LOGIN alice@example.test secret
		<~ b NO \[PRIVACYREQUIRED\] .*
		-> c CAPABILITY now
		<~ c BAD .*
		-> d LOGOUT
		<* d OK`)
}

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	s := serve(t, `proxy_protocol {
		from = ["127.0.0.0/8"]
	}`)
	account(t, s, "alice")
	c := dial(t, coretest.Address(t, s, "imaps"))
	c.send("PROXY TCP4 192.0.2.7 192.0.2.1 4711 993\r\n")
	c.startTLS()
	c.run("<* * OK\n-> a LOGIN alice@example.test wrong\n<~ a NO .*\n-> b LOGOUT\n<* b OK")
	records, err := s.Traces().Last(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 || records[0].RemoteIP != "192.0.2.7" {
		t.Errorf("trace has %+v, want a login from 192.0.2.7", records)
	}
	without := dial(t, coretest.Address(t, s, "imaps"))
	without.send("a NOOP\r\n")
	without.closed()
}

// TestClient drives the server with go-imap's client.
func TestClient(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	user := account(t, s, "alice")
	raw := connect(t, s)
	c := imapclient.New(raw.conn, nil)
	t.Cleanup(func() { _ = c.Close() }) // it may be closed already
	steps := []struct {
		name string
		do   func() error
	}{
		{"login", func() error { return c.Login(user, password).Wait() }},
		{"create", func() error { return c.Create("Lists/Go", nil).Wait() }},
		{"subscribe", func() error { return c.Subscribe("Lists/Go").Wait() }},
		{"append", func() error {
			body := "Subject: Big\r\n\r\n" + strings.Repeat("0123456789\r\n", 100000)
			cmd := c.Append("Lists/Go", int64(len(body)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft}})
			if _, err := io.WriteString(cmd, body); err != nil {
				return err
			}
			if err := cmd.Close(); err != nil {
				return err
			}
			data, err := cmd.Wait()
			if err == nil && data.UID != 1 {
				return fmt.Errorf("appended with UID %d", data.UID)
			}
			return err
		}},
		{"select", func() error {
			data, err := c.Select("Lists/Go", nil).Wait()
			if err == nil && data.NumMessages != 1 {
				return fmt.Errorf("%d messages", data.NumMessages)
			}
			return err
		}},
		{"fetch", func() error {
			section := &imap.FetchItemBodySection{Partial: &imap.SectionPartial{Offset: 16, Size: 1_000_000}}
			list, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{
				UID: true, Flags: true, Envelope: true, RFC822Size: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
				BodySection: []*imap.FetchItemBodySection{section},
			}).Collect()
			if err != nil {
				return err
			}
			if len(list) != 1 || list[0].Envelope.Subject != "Big" || list[0].RFC822Size != 1200016 ||
				len(list[0].FindBodySection(section)) != 1_000_000 || list[0].BodyStructure.MediaType() != "text/plain" {
				return fmt.Errorf("got %d messages, not what was appended", len(list))
			}
			return nil
		}},
		{"search", func() error {
			data, err := c.UIDSearch(&imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "big"}}}, &imap.SearchOptions{ReturnCount: true}).Wait()
			if err == nil && data.Count != 1 {
				return fmt.Errorf("found %d", data.Count)
			}
			return err
		}},
		{"move", func() error {
			_, err := c.Move(imap.UIDSetNum(1), "INBOX").Wait()
			return err
		}},
		{"list", func() error {
			list, err := c.List("", "Lists/*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true}, ReturnSubscribed: true}).Collect()
			if err != nil {
				return err
			}
			var got []string
			for _, l := range list {
				got = append(got, fmt.Sprint(l.Mailbox, " ", *l.Status.NumMessages))
			}
			if diff := cmp.Diff([]string{"Lists/Go 0"}, got); diff != "" {
				return fmt.Errorf("list (-want +got):\n%s", diff)
			}
			return nil
		}},
		{"unselect", func() error { return c.Unselect().Wait() }},
		{"logout", func() error { return c.Logout().Wait() }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
}
