package attachments

import (
	"bytes"
	"context"
	encoder "encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// TestReadings has messages that programs read in several ways, one of which has a
// file in it that is denied.
func TestReadings(t *testing.T) {
	t.Parallel()
	evil := zipped(t, packed{name: "evil.js", content: []byte("alert(1)")})
	_, inBody, _ := strings.Cut(inBase64(evil), "\r\n\r\n")
	multipart := mixed("b", text, filePart("evil.js", evil))
	swap := func(old, replacement string) string {
		if !strings.Contains(multipart, old) {
			t.Fatalf("the message has no %q", old)
		}
		return message(strings.ReplaceAll(multipart, old, replacement))
	}
	part := func(header, body string) string { return message(mixed("b", text, header+"\r\n\r\n"+body)) }
	inner := message(mixed("c", text, filePart("evil.js", evil)))
	innerEncoded := encoder.StdEncoding.EncodeToString([]byte(inner))
	fill := strings.Repeat
	for name, raw := range map[string]string{
		"two types": part("Content-Type: application/zip; name=a.zip\r\nContent-Type: multipart/mixed; boundary=\"::\"\r\nContent-Transfer-Encoding: base64",
			inBody+"--::\r\n\r\n\r\n--::--\r\n"),
		"two types, message":            part("Content-Type: message/rfc822\r\nContent-Type: multipart/mixed; boundary=z", inner+"\r\n--z\r\n\r\n\r\n--z--"),
		"two encodings of a message":    part("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64", innerEncoded),
		"two encodings, other order":    part("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit", inner),
		"message with a name":           part("Content-Type: message/rfc822; name=a.zip\r\nContent-Transfer-Encoding: base64", inBody),
		"news":                          part("Content-Type: message/news", inner),
		"comment, encoding":             part("Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: (x) base64", inBody),
		"quoted encoding":               part("Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: \"base64\"", inBody),
		"comment before the type":       swap("Content-Type: multipart/mixed", "Content-Type: (x) multipart/mixed"),
		"comment in the type":           swap("multipart/mixed", "multipart (x)/mixed"),
		"comment behind the type":       part("Content-Type: message/rfc822 (c)", inner),
		"comment before the boundary":   swap(`boundary="b"`, `boundary=(x)"b"`),
		"comment behind boundary":       swap(`boundary="b"`, `boundary (x)="b"`),
		"comment with a quote":          swap(`; boundary="b"`, `; (a"b) boundary="b"`),
		"comment in a comment":          swap(`; boundary="b"`, `; (a(;\)x=")") boundary="b"`),
		"more on the line of delimiter": swap("\r\n--b\r\n", "\r\n--bXYZ\r\n"),
		"minus on the line":             swap("\r\n--b\r\n", "\r\n--b--XYZ\r\n"),
		"long boundary":                 message(mixed(fill("b", 1001), text, filePart("evil.js", evil))),
		"many boundaries":               message("Content-Type: multipart/mixed" + fill(`; boundary="x"; boundary="y"`, 3) + "; boundary=1; boundary=2; boundary=3; boundary=4; boundary=5; boundary=6; boundary=b\r\n\r\n--b\r\n" + filePart("evil.js", evil)),
		"piece of a message":            message("Content-Type: message/partial; id=a; number=1; total=2\r\n\r\nContent-Type: message/rfc822\r\n\r\n"),
		"ninth disposition":             part(fill("Content-Disposition: inline\r\n", 8)+"Content-Disposition: attachment; filename=evil.js", "x"),
		"parameter too many":            part("Content-Disposition: attachment; "+fill("a=b;", 101)+" filename=evil.js", "x"),
		"content elsewhere":             part("Content-Type: message/external-body; access-type=URL", "\r\n"),
		"long name":                     part("Content-Disposition: attachment; filename=\"evil.js"+fill("x", maxName)+"\"", "x"),
		"program without zero bytes":    message(filePart("x.dat", append([]byte("MZ"), bytes.Repeat([]byte{1}, 100)...))),
		"name in the type only":         part("Content-Type: name=evil.js", "x"),
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); wantReject(t, raw) })
	}
}

// TestNames has parameters that some program reads as evil.js.
func TestNames(t *testing.T) {
	t.Parallel()
	for name, disposition := range map[string]string{
		"comment behind the name":  "attachment; filename (c)=evil.js",
		"comments around":          "attachment; filename=(c)evil.js(c)",
		"comment before":           "attachment; (c) filename=evil.js",
		"comment within":           "attachment; filename=evil.(c)js",
		"gap":                      "attachment; filename*0=evil.js; filename*2=.txt",
		"segments twice, last":     "attachment; filename*0=evil.; filename*1=j; filename*1=Z; filename*1=j; filename*2=s",
		"segments twice, first":    "attachment; filename*0=evil.; filename*1=j; filename*1=Z; filename*2=s",
		"segments twice and a gap": "attachment; filename*0=evil.; filename*1=js; filename*1=Z; filename*3=.txt",
		"quotes and a tail":        `attachment; filename="evil."js`,
		"two quoted strings":       `attachment; filename="evil." "js"; size=1`,
		"single quotes":            "attachment; filename='evil.js'",
		"percent":                  `attachment; filename="evil%2Ejs"`,
		"no-break space":           "attachment; filename=\"evil.js\u00a0\"",
		"many spaces":              `attachment; filename="evil.js` + strings.Repeat(" ", 300) + `.txt"`,
		"UTF-7":                    `attachment; filename="=?utf-7?Q?evil+AC4-js?="`,
		"UTF-7, RFC 2231":          "attachment; filename*=utf-7''+AGUAdgBpAGw.js+-.js",
		"no semicolon":             "attachment filename=evil.js",
		"nothing before":           "filename=evil.js",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := wantReject(t, message(mixed("b", text, "Content-Type: application/octet-stream\r\nContent-Disposition: "+disposition+"\r\n\r\nx")))
			if !strings.Contains(v.Reason, "the name matches *.js") {
				t.Errorf("reason %q", v.Reason)
			}
		})
	}
}

// TestStrayPadding: programs skip it or end a group by it.
func TestStrayPadding(t *testing.T) {
	t.Parallel()
	digits := encoder.StdEncoding.EncodeToString(program)
	for name, body := range map[string]string{
		"skipped behind one digit":    digits[:1] + "=" + digits[1:],
		"skipped behind two digits":   digits[:2] + "=" + digits[2:],
		"skipped behind three digits": digits[:3] + "=" + digits[3:],
		"skipped, proper":             digits[:2] + "==" + digits[2:],
		"ends a group":                "TQ=" + encoder.StdEncoding.EncodeToString(program[1:]),
		"ends a group properly":       "TQ==" + encoder.StdEncoding.EncodeToString(program[1:]),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantReject(t, message(mixed("b", text, "Content-Type: application/octet-stream; name=x.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n"+body)))
		})
	}
}

// TestArchives has zip archives that programs read in several ways.
func TestArchives(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	evil := zipped(t, packed{name: "evil.js", content: []byte("alert(1)")})
	good := zipped(t, packed{name: "a.txt", content: []byte("hello")})
	nested := zipped(t, packed{name: "inner.zip", content: evil, store: true})
	// The commented one says in its end record that it has a comment, good.
	commented := slices.Concat(evil[:len(evil)-2], le.AppendUint16(nil, uint16(len(good))), good)
	list := func(set func(entry []byte)) []byte {
		z := bytes.Clone(nested)
		set(z[bytes.LastIndex(z, []byte("PK\x01\x02")):])
		return z
	}
	both := list(func(e []byte) { le.PutUint16(e[10:], 9) })
	le.PutUint16(both[8:], 9)
	hidden := zip64("b.txt", []byte("text"))
	at := bytes.Index(hidden, []byte("PK\x06\x07"))
	hidden = slices.Concat(hidden[:at], evil, hidden[at:])
	// The end record is good's, and the record of zip64 before it is evil's.
	goodList := bytes.LastIndex(good, []byte("PK\x01\x02"))
	goodEnd := bytes.LastIndex(good, []byte("PK\x05\x06"))
	large := zip64("evil.js", []byte("x"))
	largeEnd := len(large) - lenEnd
	disagreeing := slices.Concat(large[:largeEnd], good[goodEnd:])
	le.PutUint32(disagreeing[largeEnd+12:], uint32(goodEnd-goodList))
	for name, content := range map[string][]byte{
		"end records disagree":           disagreeing,
		"one behind the other":           slices.Concat(evil, good),
		"three":                          slices.Concat(good, evil, good),
		"in the comment":                 commented,
		"behind, without a list":         slices.Concat(good, evil[:40]),
		"between the records of the end": hidden,
		"method in the list":             list(func(e []byte) { le.PutUint16(e[10:], 9) }),
		"unknown method":                 both,
		"encrypted in the list only":     list(func(e []byte) { e[8] |= flagEncrypted }),
		"all encrypted in the list only": list(func(e []byte) { e[9] |= flagMasked >> 8 }),
		"of no size in the list":         list(func(e []byte) { le.PutUint64(e[20:], 0) }),
		"another size in the list":       list(func(e []byte) { le.PutUint64(e[20:], 1<<32|1) }),
		"entry twice": list(func(e []byte) {
			le.PutUint32(e[20:], le.Uint32(e[20:])+10)
			le.PutUint32(e[24:], le.Uint32(e[24:])+10)
		}),
		"something before and behind": slices.Concat([]byte{0}, nested, make([]byte, 70_000)),
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); wantReject(t, message(mixed("b", text, filePart("a.zip", content)))) })
	}
	// macOS writes the one size into the local header and the other behind the data.
	mac := zipped(t, packed{name: "a.txt", content: []byte("hello")})
	le.PutUint32(mac[22:], 5)
	for name, content := range map[string][]byte{
		"one size behind":   mac,
		"something before":  slices.Concat([]byte("something"), good),
		"something behind":  slices.Concat(good, make([]byte, 1000)),
		"encrypted, honest": zipped(t, packed{name: "a.txt", content: []byte("xxxx"), flags: flagEncrypted}),
		"sizes behind":      zipped(t, packed{name: "a.txt"}, packed{name: "b/", store: true}, packed{name: "c.txt", content: []byte("hello"), store: true}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := newHandler(t, nil).Handle(t.Context(), newTransaction(t, message(mixed("b", text, filePart("a.zip", content)))))
			if err != nil || got.Action != mail.ActionContinue {
				t.Errorf("verdict %+v, %v", got, err)
			}
		})
	}
}

// encodedMessages are n messages within each other, each in quoted-printable.
func encodedMessages(n int, inner string) string {
	return strings.Repeat("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", n) + inner
}

// TestWorkIsBounded counts what is decoded of messages that are made to be decoded
// again and again.
func TestWorkIsBounded(t *testing.T) {
	t.Parallel()
	letter := "\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 50_000)
	fields := strings.Repeat("Content-Type: message/rfc822\r\nContent-Type: multipart/mixed; boundary=b; name=a.zip\r\n"+
		"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n--b\r\n", 20)
	for name, raw := range map[string]string{
		"encoded":           encodedMessages(28, letter),
		"with two readings": fields + letter,
	} {
		var spent int64
		a := newHandler(t, func(a *Attachments) { a.TooComplex = "tag" })
		x := &examination{Attachments: a, budget: newBudget(int64(len(raw)), t.Context().Err)}
		all := x.budget.left
		if err := x.examine(newTransaction(t, raw).Message); err != nil {
			t.Fatal(err)
		}
		if spent = all - x.budget.left; spent > all+blockSize+lineBuffer || !slices.Contains(x.tags, "attachments=too-complex") {
			t.Errorf("%s: %d bytes of a message of %d were decoded; tags %v", name, spent, len(raw), x.tags)
		}
	}
	// What programs read is found.
	wantReject(t, message(mixed("b", text, encodedMessages(maxEncoded, filePart("evil.js", nil)))))
}

// TestTimeIsTheMessagesFault: who sends what takes long is not let through.
func TestTimeIsTheMessagesFault(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	for _, raw := range []string{message(text), message(mixed("b", text)), encodedMessages(5, text)} {
		got, err := newHandler(t, nil).Handle(ctx, newTransaction(t, raw))
		if err != nil || got.Action != mail.ActionReject || !strings.Contains(got.Reason, "longer than timeout") {
			t.Errorf("verdict %+v, %v", got, err)
		}
	}
	got, err := newHandler(t, func(a *Attachments) { a.TooComplex = "tag" }).Handle(ctx, newTransaction(t, message(text)))
	if err != nil || got.Action != mail.ActionContinue {
		t.Errorf("verdict %+v, %v; want a tag", got, err)
	}
	if err := newBudget(1, ctx.Err).spend(1); !errors.Is(err, errRead) {
		t.Errorf("%v is not errRead", err)
	}
}

func wantReject(tb testing.TB, raw string) mail.Verdict {
	tb.Helper()
	got, err := newHandler(tb, nil).Handle(tb.Context(), newTransaction(tb, raw))
	if err != nil || got.Action != mail.ActionReject {
		tb.Errorf("verdict %+v, %v; want a rejection", got, err)
	}
	return got
}

func BenchmarkHostile(b *testing.B) {
	var fields strings.Builder
	for f := range maxFields {
		fields.WriteString("Content-Disposition: a")
		for i := range maxParameters {
			fmt.Fprintf(&fields, ";filename=%d", f*maxParameters+i)
		}
		fields.WriteString("\r\n")
	}
	lines := strings.Repeat("--"+strings.Repeat("b", 200)+"c\r\n", 100_000)
	boundaries := "x"
	for i := range 30 {
		boundaries = fmt.Sprintf("Content-Type: multipart/mixed; boundary=%s0\r\n\r\n--%[1]s0\r\n", strings.Repeat("b", 30-i)+"a") + boundaries
	}
	for name, raw := range map[string]string{
		"25MB encoded":    encodedMessages(28, "\r\n"+strings.Repeat(strings.Repeat("x", 70)+"\r\n", 24<<20/72)),
		"100KB encoded":   encodedMessages(28, "\r\n"+strings.Repeat(strings.Repeat("x", 70)+"\r\n", 100<<10/72)),
		"600 parts":       message(mixed("b", slices.Repeat([]string{fields.String() + "\r\nx"}, 600)...)),
		"25MB of lines":   message(boundaries + "\r\n\r\n" + lines),
		"two of archives": message(mixed("b", text, filePart("a.zip", bytes.Repeat(zipped(b, packed{name: "a"}), 10_000)))),
	} {
		b.Run(name, func(b *testing.B) {
			a := newHandler(b, func(a *Attachments) { a.TooComplex = "tag" })
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			tx := newTransaction(b, raw)
			for b.Loop() {
				if _, err := a.Handle(b.Context(), tx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
