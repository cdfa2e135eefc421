package dkim

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

// body4K is a message of about 4 KB.
var body4K = small + strings.Repeat("A line of a message, which has some text in it.\r\n", 80)

func BenchmarkVerify(b *testing.B) {
	for _, kind := range []string{"rsa", "ed25519"} {
		b.Run(kind, func(b *testing.B) {
			m := parse(b, signed(b, body4K, someNames, signingBy(kind, relaxed, relaxed)))
			v := &verifier{resolver: keyZone(), now: atNoon, most: 8}
			b.ReportAllocs()
			for b.Loop() {
				r, err := v.verify(b.Context(), m)
				if err != nil || r.findings[0].result != resultPass {
					b.Fatal(r, err)
				}
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	for _, kind := range []string{"rsa", "ed25519"} {
		b.Run(kind, func(b *testing.B) {
			m := parse(b, body4K)
			list := []signing{signingBy(kind, relaxed, relaxed)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := signMessage(m.Header, newFieldIndex(m.Header), m.OpenBody(), someNames, list); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBody(b *testing.B) {
	text := []byte(strings.Repeat("A line of a message, which has some text in it.\r\n", 20000))
	for _, c := range forms {
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := hashBody(bytes.NewReader(text), []bodyForm{{c, wholeBody}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHostile is the dearest message that a stranger can send: as many
// signatures as are looked at, each over as many and as long fields as there may be.
func BenchmarkHostile(b *testing.B) {
	var raw strings.Builder
	for i := range 390 {
		fmt.Fprintf(&raw, "X%d: %s\r\n", i, strings.Repeat("a ", 250))
	}
	names := "h=from"
	for i := range 390 {
		names += fmt.Sprintf(":x%d", i)
	}
	text := raw.String() + small
	for i := range 8 {
		text = craft(b, text, "other", strings.Replace(tags, "h=from:to:subject", names, 1)+fmt.Sprintf("; l=%d", i))
	}
	m := parse(b, text)
	v := &verifier{resolver: keyZone(), now: atNoon, most: 8}
	for b.Loop() {
		if _, err := v.verify(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}

// spooled takes in a message as a listener does, in a file.
func spooled(tb testing.TB, head string, lines int) *mail.Message {
	tb.Helper()
	spool := mail.NewSpool(tb.TempDir(), 64<<10)
	tb.Cleanup(func() {
		if err := spool.Close(); err != nil {
			tb.Error(err)
		}
	})
	if _, err := io.WriteString(spool, head); err != nil {
		tb.Fatal(err)
	}
	chunk := []byte(strings.Repeat("A line of a large  message, which has  some text in it, and ends.\r\n", 100))
	for range lines / 100 {
		if _, err := spool.Write(chunk); err != nil {
			tb.Fatal(err)
		}
	}
	m, err := spool.Message()
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// TestFlatMemory verifies and signs a message of 25 MB without more memory than one
// of 100 KB takes, with several signatures in all forms.
func TestFlatMemory(t *testing.T) { // not parallel: it counts what is allocated
	list := []signing{
		signingBy("rsa", relaxed, relaxed), signingBy("rsa", simple, simple), signingBy("ed25519", relaxed, simple), signingBy("ed25519", simple, relaxed),
	}
	cost := func(lines int) (signing, verifying uint64) {
		plain := spooled(t, small, lines)
		var values []string
		signing = allocated(func() {
			var err error
			if values, err = signMessage(plain.Header, newFieldIndex(plain.Header), plain.OpenBody(), someNames, list); err != nil {
				t.Fatal(err)
			}
		})
		head := ""
		for _, v := range values {
			head += signatureField + ": " + v + "\r\n"
		}
		m := spooled(t, head+small, lines)
		v := &verifier{resolver: keyZone(), now: atNoon, most: 8}
		verifying = allocated(func() {
			r, err := v.verify(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.findings {
				if f.result != resultPass {
					t.Errorf("%s, %s", f.result, f.reason)
				}
			}
		})
		return signing, verifying
	}
	const megabytes = 25
	smallSign, smallVerify := cost(1500)
	largeSign, largeVerify := cost(megabytes << 20 / 67)
	const more = 128 << 10
	if largeSign > smallSign+more || largeVerify > smallVerify+more {
		t.Errorf("signing 25 MB takes %d bytes of memory, 100 KB %d; verifying %d and %d", largeSign, smallSign, largeVerify, smallVerify)
	}
}

// allocated gives the bytes that a call allocates.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
