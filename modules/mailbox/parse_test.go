package mailbox

import (
	"bytes"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// crlf makes the line ends of a message.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func mustParse(t testing.TB, raw string) *summary {
	t.Helper()
	d, err := parse(strings.NewReader(raw))
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return d
}

func (d *summary) decode() imap.BodyStructure {
	r := blobReader{string(d.structure)}
	return r.structure()
}

// structures are messages whose structure every implementation must see alike.
var structures = map[string]string{
	"plain":            "From: a@example.org\nSubject: x\n\nhello\nworld\n",
	"no final newline": "Content-Type: text/plain; charset=utf-8\n\nhello\nworld",
	"no body":          "Subject: x\nContent-Type: text/html\n\n",
	"header only":      "Content-Type: text/html\nSubject: x\n",
	"attachment": `Content-Type: application/pdf; name="a b.pdf"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="a b.pdf"; size=12
Content-ID: <part1@example.org>
Content-Description: the bill
Content-Language: en, de
Content-Location: http://example.org/bill

QUJDREVGR0g=
`,
	"alternative": `Content-Type: multipart/alternative; boundary=b1

preamble
--b1
Content-Type: text/plain; charset=utf-8

one
two
--b1
Content-Type: text/html

<p>one</p>

--b1--
epilogue
`,
	"nested": `Content-Type: multipart/mixed; boundary="outer"; x=1

--outer
Content-Type: multipart/alternative; boundary="outer2"

--outer2
Content-Type: text/plain; charset=us-ascii

text
--outer2
Content-Type: multipart/related; boundary="in ner"; type="text/html"

--in ner
Content-Type: text/html

<img src="cid:1">
--in ner
Content-Type: image/png; name=a.png
Content-Id: <1>
Content-Transfer-Encoding: base64
Content-Disposition: inline

AAAA
--in ner--

--outer2--

--outer
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

BBBB
CCCC

--outer--
`,
	"forwarded": `Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=utf-8

see below
--b
Content-Type: message/rfc822
Content-Disposition: attachment

Date: Tue, 3 Nov 2026 10:00:00 +0100
From: Carol <carol@example.org>
To: "Dave, D." <dave@example.org>, eve@example.test
Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=
Message-ID: <m1@example.org>
In-Reply-To: <m0@example.org>
Content-Type: multipart/mixed; boundary=c

--c
Content-Type: text/plain; charset=utf-8

inner
--c--
--b--
`,
	"message as whole": `Content-Type: message/rfc822

From: a@example.org
Subject: in
Content-Type: text/plain; charset=utf-8

body
`,
	"digest": `Content-Type: multipart/digest; boundary=d

--d
Content-Type: message/rfc822

From: a@example.org
Content-Type: text/plain; charset=utf-8

one
--d
Content-Type: message/rfc822

From: b@example.org
Content-Type: text/plain; charset=utf-8

two
--d--
`,
	"empty parts": `Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=utf-8

--b
Content-Type: text/plain; charset=utf-8


--b--
`,
	"outer delimiter ends inner": `Content-Type: multipart/mixed; boundary=b

--b
Content-Type: multipart/mixed; boundary=c

--c
Content-Type: text/plain; charset=utf-8

one
--b
Content-Type: text/plain; charset=utf-8

two
--b--
`,
}

// likeOurs fills in what go-imap leaves out: the charset that a text without a
// Content-Type has by rule, and the defaults of Sender and Reply-To.
func likeOurs(bs imap.BodyStructure) imap.BodyStructure {
	switch bs := bs.(type) {
	case *imap.BodyStructureMultiPart:
		for i := range bs.Children {
			bs.Children[i] = likeOurs(bs.Children[i])
		}
	case *imap.BodyStructureSinglePart:
		if bs.Type == "text" && len(bs.Params) == 0 && bs.Subtype == "plain" {
			bs.Params = map[string]string{"charset": "us-ascii"}
		}
		if m := bs.MessageRFC822; m != nil {
			m.BodyStructure = likeOurs(m.BodyStructure)
			m.Envelope.Sender = m.Envelope.From
			m.Envelope.ReplyTo = m.Envelope.From
		}
	}
	return bs
}

func TestStructureLikeGoIMAP(t *testing.T) {
	t.Parallel()
	for name, raw := range structures {
		for end, raw := range map[string]string{"LF": raw, "CRLF": crlf(raw)} {
			t.Run(name+" "+end, func(t *testing.T) {
				t.Parallel()
				want := likeOurs(imapserver.ExtractBodyStructure(strings.NewReader(raw)))
				if diff := cmp.Diff(want, mustParse(t, raw).decode(), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("structure differs from go-imap's (-go-imap +ours):\n%s", diff)
				}
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"plain", "nested"} {
		b.Run(name, func(b *testing.B) {
			raw := []byte("Message-ID: <m1@example.org>\r\nDate: Tue, 3 Nov 2026 10:00:00 +0100\r\nFrom: Carol <carol@example.org>\r\nTo: Dave <dave@example.org>\r\n" + crlf(structures[name]))
			raw = append(raw, bytes.Repeat([]byte("a line of text that is about as long as they are in mail\r\n"), (4096-len(raw))/58)...)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parse(bytes.NewReader(raw)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
