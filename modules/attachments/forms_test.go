package attachments

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

// forms are messages of up to 1 MB that are made to cost as much as they can, each
// in another way. None may cost more than 50 ms of processor time: see
// BenchmarkForms.
func forms(tb testing.TB) map[string]string {
	tb.Helper()
	nestedMultiparts := ""
	for i := range 1000 {
		nestedMultiparts += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%[1]d\r\n", i)
	}
	var entries, encrypted []packed
	for i := range 5000 {
		entries = append(entries, packed{name: fmt.Sprintf("folder/%d.zip", i)})
		encrypted = append(encrypted, packed{name: fmt.Sprintf("%d.txt", i), content: []byte("x")})
	}
	words := strings.Repeat("=?utf-8?q?=41?= ", 50)
	return map[string]string{
		"nested 1000 multiparts":     nestedMultiparts + "\r\ntext\r\n",
		"nested 1000 messages":       strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 1000) + "\r\ntext\r\n",
		"nested encoded messages":    encodedMessages(1000, "\r\n"+strings.Repeat("x=3D\r\n", 20_000)),
		"100000 parts":               message("Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n", 100_000)),
		"100000 final delimiters":    message("Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b--\r\n", 100_000)),
		"delimiters that are none":   message("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat("--"+strings.Repeat("a", 70)+"\r\n", 13_000)),
		"one line":                   message("\r\n" + strings.Repeat("x", 1_000_000)),
		"empty lines":                message("\r\n" + strings.Repeat("\r\n", 500_000)),
		"quoted-printable":           message("Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("=3D", 330_000)),
		"soft line breaks":           message("Content-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("=\r\n", 330_000)),
		"quoted-printable as zip":    message("Content-Transfer-Encoding: quoted-printable\r\nContent-Disposition: attachment; filename=a.zip\r\n\r\n" + strings.Repeat("=50=4B", 160_000)),
		"base64 with padding":        message("Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=a.zip\r\n\r\n" + strings.Repeat("UEs=", 250_000)),
		"all encodings":              message("Content-Type: message/rfc822\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" + strings.Repeat("UEs=", 250_000)),
		"encoded words":              message("Content-Disposition: attachment; filename=\"" + words + "\"\r\n\r\nx"),
		"many encoded words":         message(mixed("b", strings.Repeat("Content-Disposition: attachment; filename=\""+words+"\"\r\n\r\nx\r\n--b\r\n", 900))),
		"continued parameters":       message("Content-Disposition: attachment" + continued(5000) + "\r\n\r\nx"),
		"zip bomb":                   message(mixed("x", filePart("a.zip", bomb(tb, 2, 5)))),
		"zip bomb of one entry":      message(mixed("x", filePart("a.zip", zipOfZeros(tb, 60<<20)))),
		"zip of many entries":        message(mixed("x", filePart("a.zip", zipped(tb, entries...)))),
		"encrypted zip":              message(mixed("x", filePart("a.zip", zipped(tb, encrypted...)))),
		"begins of zips":             message(mixed("x", filePart("a.zip", bytes.Repeat([]byte("PK\x03\x04"), 180_000)))),
		"ends of zips":               message(mixed("x", filePart("a.zip", bytes.Repeat([]byte("PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00"), 60_000)))),
		"entries of zips":            message(mixed("x", filePart("a.zip", bytes.Repeat([]byte("PK\x01\x02"), 180_000)))),
		"zips behind each other":     message(mixed("x", filePart("a.zip", bytes.Repeat(zipped(tb, packed{name: "a"}), 6_000)))),
		"uuencoded files":            message("\r\n" + strings.Repeat("begin 644 a\r\n", 75_000)),
		"uuencoded files in base64":  message("Content-Type: text/plain\r\n" + inBase64([]byte(strings.Repeat("begin 644 a\r\n", 50_000)))),
		"uuencoded zip":              message("\r\n" + inUU("a.zip", bytes.Repeat([]byte("PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00"), 55_000))),
		"uuencoded short lines":      message("\r\nbegin 644 a.zip\r\n" + strings.Repeat("M\n", 490_000)),
		"office file without macros": message(mixed("x", filePart("a.doc", append(oleFile(false), make([]byte, 600_000)...)))),
	}
}

// continued gives the parameter filename in n sections (RFC 2231 section 3).
func continued(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "; filename*%d=a", i)
	}
	return b.String()
}

// TestFormsAreBounded counts the work on each form, with settings that let it go on
// as long as it can.
func TestFormsAreBounded(t *testing.T) {
	t.Parallel()
	for name, raw := range forms(t) {
		a := newHandler(t, func(a *Attachments) { a.TooComplex, a.Action, a.Encrypted = "tag", "tag", "tag" })
		budget := newBudget(int64(len(raw)), t.Context().Err)
		x := &examination{Attachments: a, budget: budget}
		all := budget.left
		if err := x.examine(newTransaction(t, raw).Message); err != nil && !errors.Is(err, errEnough) {
			t.Errorf("%s: %v", name, err)
		}
		spent := all + workFactor*x.unpacked - budget.left
		if most := all + workFactor*int64(a.MaxUnpacked) + blockSize + lineBuffer; spent > most || x.parts > a.MaxParts+1 || x.entries > a.MaxEntries+1 || x.unpacked > int64(a.MaxUnpacked)+1 {
			t.Errorf("%s: %d bytes were looked at, %d parts, %d entries, %d unpacked", name, spent, x.parts, x.entries, x.unpacked)
		}
	}
}

// BenchmarkForms has the time of each.
func BenchmarkForms(b *testing.B) {
	for name, raw := range forms(b) {
		b.Run(name, func(b *testing.B) {
			a := newHandler(b, func(a *Attachments) { a.TooComplex, a.Action, a.Encrypted = "tag", "tag", "tag" })
			tx := newTransaction(b, raw)
			b.ReportAllocs()
			began := processorTime(b)
			for b.Loop() {
				if _, err := a.Handle(b.Context(), tx); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((processorTime(b)-began).Seconds()*1e3/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(len(raw))/1e3, "kB")
		})
	}
}

// processorTime is what this process has used so far, whatever else the machine does.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// FuzzArchive looks into what should be a zip archive. Whatever it is, the work is
// bounded, it ends with a verdict, and of what is denied by its name nothing passes
// that the standard library finds in it.
func FuzzArchive(f *testing.F) {
	for _, files := range [][]packed{
		{{name: "a.txt", content: []byte("text")}},
		{{name: "folder/evil.js", content: []byte("text")}, {name: "b", content: []byte("text"), store: true}},
		{{name: "inner.zip", content: zipped(f, packed{name: "evil.js"})}},
		nil,
	} {
		f.Add(zipped(f, files...))
	}
	f.Add(zip64("evil.js", []byte("text")))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Add([]byte("PK\x03\x04PK\x01\x02PK\x05\x06"))
	a := newHandler(f, func(a *Attachments) {
		a.Deny, a.Types, a.MaxUnpacked, a.MaxEntries = []string{"*.js"}, []string{typeISO, typeMacros}, 1<<20, 100
		a.prepare()
	})
	f.Fuzz(func(t *testing.T, file []byte) {
		calls := 0
		x := &examination{Attachments: a, budget: newBudget(int64(len(file)), func() error { calls++; return nil })}
		c := newContent(io.NewSectionReader(bytes.NewReader(file), 0, int64(len(file))), identity, x.budget)
		if err := x.file(c, []string{"a.zip"}, 0); err != nil && !errors.Is(err, errEnough) && !errors.Is(err, errWork) {
			t.Fatal(err)
		}
		if most := 20_000 + 10*len(file); calls > most || x.entries > a.MaxEntries+1 || x.unpacked > int64(a.MaxUnpacked)+1 {
			t.Errorf("%d bytes: %d calls, %d entries, %d unpacked", len(file), calls, x.entries, x.unpacked)
		}
		if x.worst.action == "reject" {
			return
		}
		z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		for _, entry := range z.File {
			if strings.HasSuffix(strings.ToLower(entry.Name), ".js") {
				t.Errorf("%q passes: %+v", entry.Name, x.worst)
			}
		}
	})
}
