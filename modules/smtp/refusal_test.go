package smtp

import (
	"bufio"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// TestRefusalsAreFound: by the identifier in a refusal, whatever refuses and at
// whatever stage, the trace of what was decided is found, and says why.
func TestRefusalsAreFound(t *testing.T) {
	t.Parallel()
	const never = mail.NumStages
	long := strings.Repeat("x", 70)
	for _, test := range []struct {
		name     string
		at       mail.Stage // where a handler refuses
		body     string
		commands []string
		code     string // of the refusal
		reason   string // in the trace
	}{
		{"connect", mail.StageConnect, "", nil, "550", "for the test"},
		{"helo", mail.StageHelo, "", []string{"EHLO a"}, "550", "for the test"},
		{"mail", mail.StageMail, "", []string{"EHLO a", "MAIL FROM:<>"}, "550", "for the test"},
		{"rcpt", mail.StageRcpt, "", []string{"EHLO a", "MAIL FROM:<>", "RCPT TO:<alice@example.test>"}, "550", "for the test"},
		{"data", mail.StageData, "", []string{"EHLO a", "MAIL FROM:<>", "RCPT TO:<alice@example.test>", "DATA", "Subject: a\r\n\r\n."}, "550", "for the test"},
		{"sender", never, "", []string{"EHLO a", "MAIL FROM:<a@->"}, "501", "the reverse-path is no address"},
		{"sender beyond US-ASCII", never, "", []string{"EHLO a", "MAIL FROM:<\u00fc@example.org>"}, "553", "MAIL has no SMTPUTF8"},
		{"recipient", never, "", []string{"EHLO a", "MAIL FROM:<>", "RCPT TO:<" + long + "@example.test>"}, "501", "the recipient is no address"},
		{"recipient beyond US-ASCII", never, "", []string{"EHLO a", "MAIL FROM:<>", "RCPT TO:<\u00fc@example.test>"}, "553", "MAIL had no SMTPUTF8"},
		{"too many recipients", never, "max_recipients = 1", []string{"EHLO a", "MAIL FROM:<>", "RCPT TO:<a@example.test>", "RCPT TO:<b@example.test>", "DATA", "Subject: a\r\n\r\n."}, "452", "has 1 recipients already"},
		{"too large", never, "max_message_size = \"64KB\"", []string{"EHLO a", "MAIL FROM:<>", "RCPT TO:<a@example.test>", "DATA", strings.Repeat("a: b\r\n", 12_000) + "\r\n."}, "552", ""},
		{"too many commands", never, "limits { commands = 20 }", slices.Repeat([]string{"NOOP"}, 21), "421", "too many commands"},
		{"too many errors", never, "limits { errors = 1 }", []string{"EHLO a", "X", "X"}, "421", "too many errors"},
		{"line without an end", never, "", []string{strings.Repeat("x", 64<<10)}, "500", "line"},
		{"line feed alone", never, "", []string{"NOOP\nNOOP"}, "500", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, options{body: test.body, judge: at(test.at, "", reject("No"))})
			conn := k.dial(t)
			lines := bufio.NewReader(conn)
			var refusal string
			read := func() {
				for {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					if strings.HasPrefix(line, test.code) {
						refusal = line
					}
					if line[3] == ' ' {
						return
					}
				}
			}
			read()
			for _, command := range test.commands {
				if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
					break // the server has closed
				}
				read()
			}
			if refusal == "" {
				read() // behind the reply to the last command
			}
			found := regexp.MustCompile(`\(id ([0-9a-z]{18})\)`).FindStringSubmatch(refusal)
			if found == nil {
				t.Fatalf("the refusal is %q: it has no identifier", refusal)
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			k.drained(t)
			k.traces.mu.Lock()
			defer k.traces.mu.Unlock()
			i := slices.IndexFunc(k.traces.records, func(r *trace.Record) bool { return r.ID == found[1] })
			if i < 0 {
				t.Fatalf("no trace has the identifier of %q", refusal)
			}
			r := k.traces.records[i]
			said := r.Outcome.Reason
			for _, e := range r.Entries {
				said += "; " + e.Reason
			}
			if !strings.Contains(said, test.reason) || said == "" {
				t.Errorf("the trace of %q says %q, want %q in it", refusal, said, test.reason)
			}
		})
	}
}
