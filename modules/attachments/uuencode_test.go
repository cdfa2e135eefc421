package attachments

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// inUU encodes a file as uuencode does, with a grave accent for zero.
func inUU(name string, content []byte) string {
	var b strings.Builder
	b.WriteString("begin 644 " + name + "\r\n")
	for len(content) > 0 {
		line := content[:min(45, len(content))]
		content = content[len(line):]
		b.WriteByte(' ' + byte(len(line)))
		for line := append(bytes.Clone(line), 0, 0); len(line) > 2; line = line[3:] {
			bits := uint32(line[0])<<16 | uint32(line[1])<<8 | uint32(line[2])
			for shift := 18; shift >= 0; shift -= 6 {
				if sign := byte(bits>>shift) & 63; sign == 0 {
					b.WriteByte('`')
				} else {
					b.WriteByte(' ' + sign)
				}
			}
		}
		b.WriteString("\r\n")
	}
	return b.String() + "`\r\nend\r\n"
}

// TestUUDecode decodes what was encoded, also in pieces, and where spaces stand for
// zero that are lost at the ends of lines.
func TestUUDecode(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for size := range 200 {
		original := make([]byte, size)
		for i := range original {
			original[i] = byte(random.Uint32())
		}
		_, encoded, _ := strings.Cut(inUU("a", original), "\r\n")
		for _, step := range []int{1, 7, 1000} {
			d := decoder{encoding: uuencode}
			var got []byte
			for rest := []byte(encoded); len(rest) > 0; rest = rest[min(step, len(rest)):] {
				got = d.append(got, rest[:min(step, len(rest))])
			}
			if got = d.finish(got); !bytes.Equal(got, original) {
				t.Fatalf("%d bytes in pieces of %d are %q, want %q", size, step, got, original)
			}
		}
	}
	d := decoder{encoding: uuencode}
	if got := d.finish(d.append(nil, []byte("#35I\n\"35H\n!30\n"))); string(got) != "MZ"+"MZ"+"M" {
		t.Errorf("short lines are %q", got)
	}
}

// TestUUEncoded has files in texts.
func TestUUEncoded(t *testing.T) {
	t.Parallel()
	evil := inUU("letter.doc", zipped(t, packed{name: "evil.js", content: []byte("alert(1)")}))
	random := make([]byte, 100_000)
	for i := range random {
		random[i] = byte(i * i >> 3)
	}
	far := zipped(t, packed{name: "a.bin", content: random, store: true}, packed{name: "evil.js", content: []byte("alert(1)")})
	plain := "Content-Type: text/plain\r\n\r\nSee the file.\r\n\r\n"
	for name, raw := range map[string]string{
		"name":                  message("\r\n" + inUU("a.exe", []byte("hello"))),
		"empty file":            message("\r\nbegin 644 a.exe\r\n`\r\nend\r\n"),
		"no end":                message(plain + "begin 644 a.exe"),
		"no mode":               message(plain + "begin  a.exe\r\n"),
		"no mode, digit":        message(plain + "begin  7.exe\r\n"),
		"tabs":                  message(plain + "begin\t0644\ta.exe\r\n"),
		"base64":                message(plain + "begin-base64 644 a.exe\r\naGVsbG8=\r\n====\r\n"),
		"base64, content":       message(plain + "begin-base64 644 a\r\n" + strings.SplitN(inBase64(elf), "\r\n\r\n", 2)[1] + "====\r\n"),
		"second":                message(plain + inUU("a.txt", []byte("hello")) + inUU("a.exe", []byte("hello"))),
		"second within":         message(plain + "begin 644 a.txt\r\nbegin 644 a.exe\r\n"),
		"program":               message(plain + inUU("a.txt", program)),
		"program without end":   message(plain + strings.TrimSuffix(inUU("a.txt", program), "`\r\nend\r\n")),
		"archive":               message(plain + evil + "\r\nRegards\r\n"),
		"large archive":         message(plain + inUU("a.zip", far) + "\r\nRegards\r\n"),
		"in a part":             message(mixed("b", plain+evil, filePart("a.txt", []byte("hello")))),
		"in HTML":               message("Content-Type: text/html\r\n\r\n" + evil),
		"in base64":             message("Content-Type: text/plain\r\n" + inBase64([]byte("Hello.\r\n"+evil))),
		"in quoted-printable":   message("Content-Type: text/plain\r\n" + inQuotedPrintable([]byte("Hello.\r\n"+evil))),
		"bad type":              message("Content-Type: text\r\n\r\n" + evil),
		"no boundary":           message("Content-Type: multipart/mixed\r\n\r\n" + evil),
		"behind a long line":    message(plain + strings.Repeat("x", 100_000) + "\r\n" + evil),
		"behind many lines":     message(plain + strings.Repeat("Some words.\r\n", 20_000) + evil),
		"with line feeds alone": message(plain + strings.ReplaceAll(evil, "\r\n", "\n")),
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); wantReject(t, raw) })
	}
}

// TestNoUUEncoding has texts without a file that is denied.
func TestNoUUEncoding(t *testing.T) {
	t.Parallel()
	clean := zipped(t, packed{name: "report.txt", content: []byte("text")})
	for name, raw := range map[string]string{
		"harmless":               message("\r\n" + inUU("a.txt", []byte("hello"))),
		"archive":                message("\r\nHello.\r\n" + inUU("a.zip", clean) + "Regards\r\n" + inUU("b.zip", clean)),
		"begin":                  message("\r\nbegin\r\nbegin \r\nbegin 644\r\nbegin 644 \r\nbegin  \r\nend\r\n"),
		"words":                  message("\r\nbegin with a.exe\r\nbegin 644a.exe\r\nbegins 644 a.exe\r\nwe begin 644 a.exe\r\n begin 644 a.exe\r\n"),
		"within a long line":     message("\r\n" + strings.Repeat("x", 32<<10) + "begin 644 a.exe\r\n"),
		"a file that is no text": message("Content-Type: image/png\r\n\r\n" + inUU("a.exe", []byte("hello"))),
	} {
		got, err := newHandler(t, nil).Handle(t.Context(), newTransaction(t, raw))
		if err != nil || !strings.HasPrefix(got.Reason, "nothing denied") {
			t.Errorf("%s: %s, %v", name, got.Reason, err)
		}
	}
	got, err := newHandler(t, nil).Handle(t.Context(), newTransaction(t, message("\r\n"+strings.Repeat("begin 644 a\r\n", 2000))))
	if err != nil || !strings.Contains(got.Reason, "more parts than max_parts") {
		t.Errorf("many files: %s, %v", got.Reason, err)
	}
}
