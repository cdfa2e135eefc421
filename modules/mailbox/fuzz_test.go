package mailbox

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
)

// checkStructure looks whether the parts of a message lie within each other and
// are not more than the limits allow.
func checkStructure(t *testing.T, d *summary, size int64) {
	t.Helper()
	r := blobReader{string(d.structure)}
	parts := 0
	var walk func(begin, end int64, depth int)
	walk = func(begin, end int64, depth int) {
		p := r.part()
		parts++
		if p.main == "" || p.sub == "" {
			t.Fatalf("part %d has no type", parts)
		}
		if p.header < begin || p.body < p.header || p.end < p.body || p.end > end || p.lines > p.end-p.body {
			t.Fatalf("part from %d over %d to %d, %d lines, is not within %d to %d", p.header, p.body, p.end, p.lines, begin, end)
		}
		if p.kind == kindMessage && (p.text < p.body || p.text > p.end) {
			t.Fatalf("text at %d is not within %d to %d", p.text, p.body, p.end)
		}
		if p.kind == kindMultipart && p.children == 0 || depth > maxMIMEDepth {
			t.Fatalf("multipart of %d parts at depth %d", p.children, depth)
		}
		begin = p.body
		for range p.children {
			walk(begin, p.end, depth+1)
		}
	}
	walk(0, size, 0)
	if r.rest != "" {
		t.Fatalf("%d bytes follow the structure", len(r.rest))
	}
	if parts > maxMIMEParts+maxMIMEDepth {
		t.Fatalf("%d parts", parts)
	}
}

func FuzzParse(f *testing.F) {
	for _, raw := range structures {
		f.Add([]byte(raw))
		f.Add([]byte(crlf(raw)))
	}
	for _, raw := range searchCorpus() {
		f.Add([]byte(raw))
	}
	f.Add([]byte("Content-Type: multipart/mixed; boundary=\"\"\n\n--\n--\n----\n"))
	f.Add([]byte("Content-Type: multipart/digest; boundary=b\n\n--b\n\n\n--b--"))
	f.Add([]byte("From: a <b@[1.2.3.4]>, g:c@d ( x (y)) , \"q\\\"\"@e;\nDate: 1 Jan 70 1:2 UT\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := parse(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		checkStructure(t, d, int64(len(raw)))
		if n := len(d.envelope) + len(d.structure) + len(d.fields); n > 4096+16*len(raw) {
			t.Fatalf("%d bytes are kept of a message of %d", n, len(raw))
		}
		d.decode()
		readEnvelope(string(d.envelope)).decode()
	})
}

// FuzzBlob reads what no parser wrote, as a damaged database may have it.
func FuzzBlob(f *testing.F) {
	for _, raw := range structures {
		f.Add(string(mustParse(f, raw).structure), 1)
		f.Add(string(mustParse(f, raw).envelope), 2)
	}
	f.Fuzz(func(t *testing.T, blob string, number int) {
		e := readEnvelope(blob)
		e.decode()
		e.addresses[fieldTo].text()
		r := blobReader{blob}
		r.find([]int{number, 1, number})
		r = blobReader{blob}
		r.structure()
	})
}

func TestHostileMessages(t *testing.T) {
	t.Parallel()
	long := func(s string) string { return strings.Repeat(s, 200<<10/len(s)) }
	nested := ""
	for i := range 3 * maxMIMEDepth {
		nested += fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	tests := map[string]struct {
		raw  string
		want string // main type of the whole and number of parts below it
	}{
		"boundary missing":     {"Content-Type: multipart/mixed\n\n--b\n\nx\n--b--\n", "text/plain 0"},
		"boundary empty":       {"Content-Type: multipart/mixed; boundary=\"\"\n\n--\n\nx\n----\n", "text/plain 0"},
		"boundary never comes": {"Content-Type: multipart/mixed; boundary=b\n\nx\n", "text/plain 0"},
		"closed at once":       {"Content-Type: multipart/mixed; boundary=b\n\n--b--\n", "text/plain 0"},
		"type broken":          {"Content-Type: what is this\n\nx\n", "text/plain 0"},
		"type without subtype": {"Content-Type: image/\n\nx\n", "text/plain 0"},
		"type too long":        {"Content-Type: x" + long("x") + "/y\n\nx\n", "x-unknown/y 0"},
		"too many parts":       {"Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 3*maxMIMEParts), fmt.Sprint("multipart/mixed ", maxMIMEParts-1)},
		"too deep":             {nested, "multipart/mixed 1"},
		"comments in a type":   {"Content-Type: text/html; " + long("a(;") + "\n\nx\n", "text/html 0"},
		"spaces in addresses":  {"From: a@" + long(" ") + "b." + long(" ") + "\n\nx\n", "text/plain 0"},
		"commas in addresses":  {"From: " + long(",:;<>@") + "\n\nx\n", "text/plain 0"},
		"quotes in addresses":  {"To: " + long("\"\\") + "\n\nx\n", "text/plain 0"},
		"comments in a date":   {"Date: " + long("(") + "\n\nx\n", "text/plain 0"},
		"identifiers":          {"References: " + long("<a>") + "\n\nx\n", "text/plain 0"},
		"one long line":        {"Subject: x\n\n" + long("x") + long("y"), "text/plain 0"},
		"empty":                {"", "text/plain 0"},
		"nul":                  {"Subject: a\x00b\n\n\x00", "text/plain 0"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := mustParse(t, test.raw)
			checkStructure(t, d, int64(len(test.raw)))
			got := ""
			switch bs := d.decode().(type) {
			case *imap.BodyStructureMultiPart:
				got = fmt.Sprint(bs.MediaType(), " ", len(bs.Children))
			case *imap.BodyStructureSinglePart:
				got = fmt.Sprint(bs.MediaType(), " ", 0)
			}
			same(t, "structure", test.want, got)
			readEnvelope(string(d.envelope)).decode()
		})
	}
}

func TestStructureOfBroken(t *testing.T) {
	t.Parallel()
	raw := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8; x=\"a;\\\"b\"; Y = z (comment)\r\n\r\none\r\n"
	got := mustParse(t, raw).decode().(*imap.BodyStructureMultiPart).Children[0]
	same(t, "part without a closing delimiter", imap.BodyStructure(&imap.BodyStructureSinglePart{
		Type: "text", Subtype: "plain", Params: map[string]string{"charset": "utf-8", "x": `a;"b`, "y": "z"}, Size: 5,
		Text: &imap.BodyStructureText{NumLines: 1}, Extended: &imap.BodyStructureSinglePartExt{},
	}), got)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"a@b":                                    "|a|b",
		"A B <a@b>":                              "A B|a|b",
		`"B, A" <a@b>, c@d`:                      "B, A|a|b; |c|d",
		"a@b (Al (the) Bo)":                      "Al (the) Bo|a|b",
		"(before) a@b":                           "before|a|b",
		`"a b"@c`:                                "|a b|c",
		"a . b @ c . d":                          "|a.b|c.d",
		"<@x,@y:a@b>":                            "|a|b",
		"<a@[192.0.2.1]>":                        "|a|[192.0.2.1]",
		"g: a@b, C <c@d>;":                       "|g|; |a|b; C|c|d; ||",
		"g:;, e@f":                               "|g|; ||; |e|f",
		"g: a@b":                                 "|g|; |a|b; ||",
		"undisclosed":                            "|undisclosed|MISSING_DOMAIN",
		"A <>":                                   "A|MISSING_MAILBOX|MISSING_DOMAIN",
		"A <b":                                   "A|b|MISSING_DOMAIN",
		"a@":                                     "|a|MISSING_DOMAIN",
		"=?utf-8?q?=C3=A9?= =?utf-8?q?x?= <a@b>": "éx|a|b",
		",, ,a@b,":                               "|a|b",
		"":                                       "",
	}
	for in, want := range tests {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			e := readEnvelope(string(mustParse(t, "To: "+in+"\n\n").envelope))
			var got []string
			for _, a := range e.addresses[fieldTo].decode() {
				got = append(got, a.Name+"|"+a.Mailbox+"|"+a.Host)
			}
			same(t, "addresses", want, strings.Join(got, "; "))
		})
	}
}

func TestDates(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"Tue, 3 Nov 2026 10:11:12 +0130":       "2026-11-03T10:11:12+01:30",
		"3 Nov 2026 10:11 -0500":               "2026-11-03T10:11:00-05:00",
		"Tue, 03 November 2026 10:11:12 GMT":   "2026-11-03T10:11:12Z",
		"Tue (day), 3 (x) Nov 26 10:11:12 EST": "2026-11-03T10:11:12-05:00",
		"3 Nov 97 10:11:12 Z":                  "1997-11-03T10:11:12Z",
		"3 Nov 102 10:11:12 +9999":             "2002-11-03T10:11:12Z",
		"Fri, 3 Nov 2026":                      "2026-11-03T00:00:00Z",
		"31 Feb 2026 00:00:00 +0000":           "",
		"yesterday":                            "",
		"":                                     "",
	}
	for in, want := range tests {
		got := ""
		if d, ok := parseDate(in); ok {
			got = d.Format("2006-01-02T15:04:05Z07:00")
		}
		if got != want {
			t.Errorf("date %q is %q, want %q", in, got, want)
		}
	}
}
