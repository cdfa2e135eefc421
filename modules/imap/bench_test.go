package imap_test

import (
	"bytes"
	"fmt"
	"testing"
)

// BenchmarkFetch reads a mailbox of 16,000 small messages over TLS. Budget: the
// flags of 100,000 messages in 100 ms, as Dovecot needs.
func BenchmarkFetch(b *testing.B) {
	s := serve(b, "")
	user := account(b, s, "alice")
	fill(b, s, user, 1000)
	c := login(b, s, user)
	c.run("-> s SELECT INBOX\n<* s OK")
	for i := range 4 {
		c.run(fmt.Sprintf("-> d%d COPY 1:* INBOX\n<* d%d OK", i, i))
	}
	for _, command := range []string{
		"UID FETCH 1:* (FLAGS)", "FETCH 1:* (UID FLAGS ENVELOPE)", "FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (From Subject Date)])",
		"FETCH 1:1000 (BODY.PEEK[])", "SEARCH SUBJECT \"Message 77\"", "SELECT INBOX", "NOOP",
	} {
		b.Run(command, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				c.send(fmt.Sprintf("t%d %s\r\n", i, command))
				tag := fmt.Appendf(nil, "t%d ", i)
				for {
					line, err := c.in.ReadSlice('\n')
					if err != nil {
						b.Fatal(err)
					}
					if bytes.HasPrefix(line, tag) {
						break
					}
				}
			}
		})
	}
}
