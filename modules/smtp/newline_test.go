package smtp

import (
	"strings"
	"testing"
)

// TestSmuggling pins that only CR LF . CR LF ends a message, and that what other
// servers could take for an end is not passed on to them.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	const second = `MAIL FROM:<admin@example.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n`
	for _, test := range []struct{ name, end string }{
		{"LF . LF", `\n.\n`},
		{"LF . CR LF", `\n.\r\n`},
		{"CR LF . LF", `\r\n.\n`},
		{"CR . CR", `\r.\r`},
		{"CR LF . CR", `\r\n.\r`},
		{"CR . CR LF", `\r.\r\n`},
		{"LF . CR", `\n.\r`},
		{"CR CR LF . CR CR LF", `\r\r\n.\r\r\n`},
		{"CR LF NUL . CR LF", `\r\n\x00.\r\n`},
		{"LF LF . CR LF", `\n\n.\r\n`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, options{})
			code := "554 5.5.2 The message has a CR or LF alone: lines end with CR LF (id ID)"
			if strings.Contains(test.end, "x00") {
				code = "554 5.6.0 The message has a NUL byte (id ID)"
			}
			k.dialog(t, hello+envelope+`
				-> DATA
				<- 354 *
				=> "Subject: first\r\n\r\nfirst`+test.end+second+`Subject: second\r\n\r\nsecond\r\n.\r\n"
				<- `+code+`
				-> NOOP
				<- 250 *
			`)
			if n := k.sink.count(); n != 0 {
				t.Errorf("%d messages came in", n)
			}
			normal := newKit(t, options{body: `bare_newlines = "normalise"`})
			if strings.Contains(test.end, "x00") {
				return
			}
			normal.dialog(t, hello+envelope+`
				-> DATA
				<- 354 *
				=> "Subject: first\r\n\r\nfirst`+test.end+second+`Subject: second\r\n\r\nsecond\r\n.\r\n"
				<- 250 2.0.0 OK: kept as ID
				-> NOOP
				<- 250 *
			`)
			_, message := normal.sink.last(t)
			if rest := strings.ReplaceAll(message, "\r\n", ""); strings.ContainsAny(rest, "\r\n") {
				t.Errorf("bare CR or LF in %q", message)
			}
			if n := normal.sink.count(); n != 1 || !strings.Contains(message, "MAIL FROM:<admin") {
				t.Errorf("%d messages, the last one %q", n, message)
			}
		})
	}
}

// TestCutReads pins that it does not matter where the network cuts the bytes.
func TestCutReads(t *testing.T) {
	t.Parallel()
	const text = "a: b\r\n\r\n.. x\r\n.\rx\n\r\r\nend\n.\r\n\r\n..\r\n.\r\nrest"
	for _, mode := range []bool{false, true} {
		whole := taken(t, text, len(text), mode)
		for size := 1; size < len(text); size++ {
			if got := taken(t, text, size, mode); got != whole {
				t.Errorf("normalise %t, in pieces of %d:\n got %q\nwant %q", mode, size, got, whole)
			}
		}
	}
}

// taken gives the content of the message, or its fault, and how much was used.
func taken(t *testing.T, text string, size int, normalise bool) string {
	t.Helper()
	l := newListener(t, options{body: `tls = "off"`}).listener
	if normalise {
		l.BareNewlines = "normalise"
	}
	s := &session{listener: l}
	in := s.newIntake()
	defer in.close()
	d := dots{bol: true}
	var buffer []byte
	for used := 0; used < len(text); {
		n := min(size, len(text)-used)
		buffer = append(buffer, text[used:used+n]...)
		used += n
		k, end := d.decode(buffer, in)
		buffer = buffer[k:]
		if len(buffer) > 2 && !end {
			t.Fatalf("%d bytes remain: %q", len(buffer), buffer)
		}
		if end {
			m := in.message()
			if m == nil {
				return in.fault.Reason
			}
			raw := make([]byte, m.Size)
			if _, err := m.Open().ReadAt(raw, 0); err != nil {
				t.Fatalf("read message: %v", err)
			}
			return string(raw) + "|" + text[used-len(buffer):]
		}
	}
	return "no end"
}

func TestCommandLines(t *testing.T) {
	t.Parallel()
	const refused = "<- 500 5.5.2 Lines end with CR LF, and hold neither of them alone nor NUL (id ID)\nEOF"
	for _, test := range []struct{ name, script string }{
		{"LF", `=> "NOOP\nNOOP\r\n"` + "\n" + refused},
		{"CR", `=> "NOOP\rNOOP\r\n"` + "\n" + refused},
		{"CR CR LF", `=> "NOOP\r\r\n"` + "\n" + refused},
		{"LF alone", `=> "\n"` + "\n" + refused},
		{"NUL", `=> "NO\x00OP\r\n"` + "\n" + refused},
		{"too long", `
			=> "NOOP ` + strings.Repeat("x", 4090) + `\r\nNOOP\r\n"
			<- 500 5.5.2 Line too long
			<- 250 *
			=> "NOOP ` + strings.Repeat("x", 4089) + `\r\n"
			<- 250 *`},
		{"longer than the buffer", `
			=> "NOOP ` + strings.Repeat("x", 16<<10) + `\r\nNOOP\r\n"
			<- 500 5.5.2 Line too long
			<- 250 *`},
		{"without an end", `
			=> "NOOP ` + strings.Repeat("x", 40<<10) + `"
			<- 500 5.5.2 Line too long, closing the connection (id ID)
			EOF`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			newKit(t, options{body: `tls = "off"`}).dialog(t, hello+test.script)
		})
	}
}
