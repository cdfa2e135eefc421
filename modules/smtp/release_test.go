package smtp

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

// closing counts the spools that are open.
type closing struct {
	io.Closer

	open *atomic.Int64
}

// Close closes the spool.
func (c closing) Close() error {
	c.open.Add(-1)
	return c.Closer.Close()
}

// TestRewrittenIsReleased: what a handler has put in the place of a message is freed
// with it, whatever becomes of the message: else each would keep its file, and its share
// of the spool, until there is no room for others.
func TestRewrittenIsReleased(t *testing.T) {
	t.Parallel()
	var made, open atomic.Int64
	dir := t.TempDir()
	verdicts := map[string]mail.Verdict{
		"refused":   mail.Reject(mail.NewReply(550, 7, 1, "No"), "no"),
		"deferred":  mail.Defer(mail.NewReply(451, 7, 1, "Later"), "later"),
		"discarded": mail.Discard("away"),
	}
	k := newKit(t, options{judge: func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
		if tx.Stage != mail.StageData {
			return mail.Verdict{}, nil
		}
		spool := mail.NewSpool(dir, 1)
		if _, err := io.WriteString(spool, "From: other\r\n\r\nnew\r\n"); err != nil {
			return mail.Verdict{}, err
		}
		m, err := spool.Message()
		if err != nil {
			return mail.Verdict{}, err
		}
		made.Add(1)
		open.Add(1)
		tx.Rewrite(m, closing{spool, &open})
		return verdicts[tx.Envelope.ReversePath.LocalPart], nil
	}})
	data := func(from, want string) string {
		return "-> MAIL FROM:<" + from + "@example.org>\n<- 250 *\n-> RCPT TO:<user@example.test>\n<- 250 *\n-> DATA\n<- 354 *\n=> \"From: a\\r\\n\\r\\nold\\r\\n.\\r\\n\"\n<- " + want + " *\n"
	}
	k.dialog(t, hello+data("taken", "250")+data("refused", "550")+data("deferred", "451")+data("discarded", "250")+
		"-> MAIL FROM:<taken@example.org>\n<- 250 *\n-> RCPT TO:<full@example.test>\n<- 250 *\n=> \"BDAT 16 LAST\\r\\nFrom: a\\r\\n\\r\\nold\\r\\n\"\n<- 452 *\n")
	if made.Load() != 5 || open.Load() != 0 {
		t.Errorf("%d of %d are still open", open.Load(), made.Load())
	}
	if _, message := k.sink.last(t); message[len(message)-5:] != "new\r\n" {
		t.Errorf("the message that was stored is %q", message)
	}
}
