package dkim

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStrayLine puts lines that no signature covers into a signed message.
func TestStrayLine(t *testing.T) {
	t.Parallel()
	good := craft(t, small, "rsa", tags)
	const policy = "the header has a line that is no field, so that it is not signed"
	tests := map[string]struct{ raw, result, reason string }{
		"none":            {good, "pass", "2048-bit key"},
		"on top":          {"Dear customer, pay to\r\n" + good, "policy", policy},
		"with a colon":    {"Dear customer: pay to\r\n" + good, "policy", policy},
		"space on top":    {" Dear customer\r\n" + good, "policy", policy},
		"between fields":  {strings.Replace(good, "To:", "Dear customer\r\nTo:", 1), "policy", policy},
		"at the end":      {strings.Replace(good, "\r\n\r\n", "\r\nDear customer\r\n\r\n", 1), "policy", policy},
		"and changed":     {"Dear customer\r\n" + good + "x\r\n", "fail", "the body was changed: its hash is not bh="},
		"second Subject":  {"Subject: pay\r\n" + good, "pass", "2048-bit key, there are 2 fields subject, and 1 signed"},
		"second unsigned": {"Date: a\r\nDate: b\r\n" + good, "pass", "2048-bit key, there are 2 fields date, and 0 signed"},
		"one unsigned":    {"Date: a\r\n" + good, "pass", "2048-bit key"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := verifyText(t, keyZone(), tt.raw).findings[0]
			if f.result != tt.result || f.reason != tt.reason {
				t.Errorf("%s, %q; want %s, %q", f.result, f.reason, tt.result, tt.reason)
			}
		})
	}
}

// TestStrayLineInChain holds that neither a chain of seals nor a new one covers such a
// line.
func TestStrayLineInChain(t *testing.T) {
	t.Parallel()
	raw := strings.Replace(chainOf(t, small, 1), "To:", "Dear customer\r\nTo:", 1)
	if r := verifyChain(t, keyZone(), raw); r.result != chainFail || !strings.Contains(r.reason, strayLine) {
		t.Errorf("%s, %q", r.result, r.reason)
	}
	tx := transaction(t, strings.Replace(small, "To:", "Dear customer\r\nTo:", 1))
	if _, reason := sealedBy(t, arcSealer("rsa"), tx); reason != "not sealed: "+strayLine {
		t.Errorf("%q", reason)
	}
}

// TestBodyLimits holds that bodies hashed for several limits at once have the hashes of
// their beginnings.
func TestBodyLimits(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a line of the body\r\n", 1000)
	limits := []int64{7, 0, 20000, wholeBody, 4096, 7, 19999, 30000, 4097}
	for name, limits := range map[string][]int64{"all": limits, "without the whole": {5000, 3}, "nothing": {0}} {
		var wanted []bodyForm
		for _, limit := range limits {
			wanted = append(wanted, bodyForm{simple, limit}, bodyForm{relaxed, limit})
		}
		sums, err := hashBody(strings.NewReader(text), wanted)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range wanted {
			beginning := text
			if form.limit >= 0 && form.limit < int64(len(text)) {
				beginning = text[:form.limit]
			}
			want := sha256.Sum256([]byte(beginning))
			if diff := cmp.Diff(bodySum{want[:], int64(len(text))}, sums[form], cmp.AllowUnexported(bodySum{})); diff != "" {
				t.Errorf("%s, %s up to %d (-want +got):\n%s", name, form.canonicalization, form.limit, diff)
			}
		}
	}
}

// BenchmarkLimits hashes 24 MB for eight signatures with limits of their own.
func BenchmarkLimits(b *testing.B) {
	text := strings.Repeat("a line of the body\r\n", 24<<20/20)
	var wanted []bodyForm
	for i := range 8 {
		wanted = append(wanted, bodyForm{simple, int64(len(text) - i)})
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := hashBody(strings.NewReader(text), wanted); err != nil {
			b.Fatal(err)
		}
	}
}
