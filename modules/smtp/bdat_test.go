package smtp

import (
	"strings"
	"testing"
)

func TestBDAT(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body, script, want string }{
		{"one chunk", "", envelope + `
			=> "BDAT 8 LAST\r\na: b\r\n\r\n"
			<- 250 2.0.0 OK: kept as ID`, "a: b\r\n\r\n"},
		{"chunks that cut lines, a dot, an empty end", "", envelope + `
			=> "BDAT 5\r\na: b\rbdat 6\r\n\n\r\n.\r\nBDAT 0 last\r\n"
			<- 250 2.0.0 5 octets received
			<- 250 2.0.0 6 octets received
			<- 250 2.0.0 OK: kept as ID`, "a: b\r\n\r\n.\r\n"},
		{"last line without an end", "", envelope + `
			=> "BDAT 10 LAST\r\na: b\r\n\r\nhi"
			<- 250 2.0.0 OK: kept as ID`, "a: b\r\n\r\nhi\r\n"},
		{"two messages in one batch", "", `
			=> "MAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nBDAT 4 LAST\r\n\r\na\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nBDAT 4 LAST\r\n\r\nb\n"
			<- 250 *
			<- 250 *
			<- 554 5.5.2 The message has a CR or LF alone: lines end with CR LF (id ID)
			<- 250 *
			<- 250 *
			<- 554 5.5.2 The message has a CR or LF alone: lines end with CR LF (id ID)
			` + envelope + `
			=> "BDAT 4 LAST\r\n\r\n\r\n"
			<- 250 *`, "\r\n\r\n"},
		{"CR at the very end", "", envelope + `
			=> "BDAT 3 LAST\r\n\r\n\r"
			<- 554 5.5.2 *`, ""},
		{"normalised", `bare_newlines = "normalise"`, envelope + `
			=> "BDAT 4\r\na:b\nBDAT 4 LAST\r\n\nx\ry"
			<- 250 2.0.0 4 octets received
			<- 250 2.0.0 OK: kept as ID`, "a:b\r\n\r\nx\r\ny\r\n"},
		{"other commands between chunks", "", envelope + `
			=> "BDAT 2\r\n\r\n"
			<- 250 *
			-> DATA
			<- 503 5.5.1 Send the rest of the message by BDAT, or RSET
			-> RCPT TO:<bert@example.test>
			<- 503 5.5.1 Send the rest of the message by BDAT, or RSET
			-> MAIL FROM:<>
			<- 503 5.5.1 Send the rest of the message by BDAT, or RSET
			-> NOOP
			<- 250 *
			-> RSET
			<- 250 *
			=> "BDAT 2 LAST\r\n\r\n"
			<- 503 5.5.1 No valid recipients, send RCPT first`, ""},
		{"chunk without recipients is skipped", "", `
			-> MAIL FROM:<bob@example.org>
			<- 250 *
			=> "BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"
			<- 503 5.5.1 No valid recipients, send RCPT first
			<- 250 2.0.0 OK`, ""},
		{"a fault ends the message at its chunk", "", envelope + `
			=> "BDAT 2\r\n\n\nBDAT 2\r\n\r\nBDAT 2 LAST\r\n\r\n"
			<- 554 5.5.2 The message has a CR or LF alone: lines end with CR LF (id ID)
			<- 503 5.5.1 No valid recipients, send RCPT first
			<- 503 5.5.1 No valid recipients, send RCPT first
			` + envelope, ""},
		{"too large in two chunks", `max_message_size = "64KB"`, envelope + `
			=> "BDAT 40000\r\n` + strings.Repeat(strings.Repeat("x", 98)+`\r\n`, 400) + `BDAT 40000\r\n` + strings.Repeat(strings.Repeat("x", 98)+`\r\n`, 400) + `NOOP\r\n"
			<- 250 2.0.0 40000 octets received
			<- 552 5.3.4 Message is larger than this server takes (id ID)
			<- 250 2.0.0 OK`, ""},
		{"far too large", `max_message_size = "64KB"`, envelope + `
			=> "BDAT 9000000 LAST\r\n` + strings.Repeat("x", 2<<20) + `"
			<- 552 5.3.4 Message is larger than this server takes (id ID)
			EOF`, ""},
		{"no size", "", envelope + `
			-> BDAT
			<- 501 5.5.4 Syntax: BDAT size [LAST] (id ID)
			EOF`, ""},
		{"negative size", "", envelope + `
			-> BDAT -1 LAST
			<- 501 5.5.4 Syntax: BDAT size [LAST] (id ID)
			EOF`, ""},
		{"wrong word", "", envelope + `
			-> BDAT 1 FIRST
			<- 501 5.5.4 Syntax: BDAT size [LAST] (id ID)
			EOF`, ""},
		{"size that no number holds", "", envelope + `
			-> BDAT 99999999999999999999 LAST
			<- 501 5.5.4 Syntax: BDAT size [LAST] (id ID)
			EOF`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, options{body: test.body})
			k.dialog(t, hello+test.script)
			if test.want == "" {
				if n := k.sink.count(); n != 0 {
					t.Errorf("%d messages came in", n)
				}
				return
			}
			_, message := k.sink.last(t)
			_, after, _ := strings.Cut(message, "+0000\r\n")
			if after != test.want {
				t.Errorf("got %q, want %q", after, test.want)
			}
		})
	}
}
