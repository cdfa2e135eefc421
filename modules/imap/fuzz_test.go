package imap_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core"
)

// FuzzSession sends anything to a session that has logged in and selected a
// mailbox. Nothing must panic or fail inside, nor keep the connection open.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"a FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE BODY BODY.PEEK[1.2.MIME]<3.4> BINARY.SIZE[1])\r\n",
		"a UID FETCH *:1 (BODY[HEADER.FIELDS.NOT (a \"b\" {1+}\r\nc)] RFC822.PEEK)\r\nb FETCH $ ALL\r\n",
		"a SEARCH RETURN (SAVE MIN) OR (NOT UID 1,3:* LARGER 9) HEADER a \"\" KEYWORD x SENTON 1-Jan-2026\r\n",
		"a STORE 1:* -FLAGS.SILENT (\\Deleted $x)\r\nb EXPUNGE\r\nc UID EXPUNGE 1:*\r\nd CLOSE\r\n",
		"a APPEND INBOX (\\Seen) \" 1-Jan-2026 00:00:00 +0000\" {6+}\r\na: b\r\n\r\nb APPEND x ~{1}\r\n",
		"a CREATE a/&AOk-\r\nb RENAME a b\r\nc LIST (SUBSCRIBED) \"\" (% *) RETURN (STATUS (MESSAGES SIZE) CHILDREN)\r\nd LSUB a %\r\ne DELETE b\r\n",
		"a COPY 1:* INBOX\r\nb UID MOVE 1:* Trash\r\nc IDLE\r\nDONE\r\nd STATUS INBOX (RECENT UNSEEN DELETED)\r\ne EXAMINE INBOX\r\nf STORE 1 FLAGS ()\r\n",
	} {
		f.Add(seed)
	}
	log, logs := observer.New(zap.ErrorLevel)
	server := core.NewServer(core.Options{
		ConfigFile: "test.hcl", Source: fmt.Appendf(nil, config, ""), DataDir: f.TempDir(), Logger: zap.New(log),
	})
	if ds, _, err := server.Start(f.Context()); err != nil {
		f.Fatalf("start server: %v\n%v", err, ds.Err())
	}
	f.Cleanup(func() { _ = server.Stop(f.Context()) })
	user := account(f, server, "alice")
	f.Fuzz(func(t *testing.T, sent string) {
		c := login(t, server, user)
		c.run("-> s SELECT INBOX\n<* s OK\n-> t STORE 1:* +FLAGS.SILENT (\\Deleted)\n<* t OK\n-> u EXPUNGE\n<* u OK")
		deliver(t, server, user, multipart)
		_ = c.conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c.conn, sent); err == nil {
			_ = c.conn.(*tls.Conn).CloseWrite()
		}
		if _, err := io.Copy(io.Discard, c.conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the session goes on after the end of %q", sent)
		}
		for _, entry := range logs.TakeAll() {
			t.Errorf("%q leads to: %s %v", sent, entry.Message, entry.ContextMap())
		}
	})
}
