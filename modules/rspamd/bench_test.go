package rspamd

import (
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/test/daemon"
)

// fourKilobytes is a message of that size.
func fourKilobytes() string {
	return letter("") + strings.Repeat("Some words of a letter to the colleagues, about this and that and the garden.\r\n", 50)
}

// BenchmarkRspamd has a message of 4 KB judged by a real rspamd with one normal
// worker, one after the other and four at once.
func BenchmarkRspamd(b *testing.B) {
	d := daemon.Run(b, daemon.Rspamd{Hyperscan: true})
	raw := fourKilobytes()
	judge := func(b *testing.B, r *Rspamd) {
		b.Helper()
		tx := newTransaction(b, raw)
		// Without a name rspamd asks the DNS for one, and waits.
		tx.SetAuthResult(mail.AuthResult{Method: "iprev", Result: "pass", Reason: "client.example.org"})
		if _, err := r.Handle(b.Context(), tx); err != nil {
			b.Fatal(err)
		}
	}
	for _, address := range []backend.Address{d.TCP, d.Unix} {
		r := newHandler(b, address, nil)
		b.Run(address.Network+"/one", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				judge(b, r)
			}
		})
		b.Run(address.Network+"/four", func(b *testing.B) {
			b.SetParallelism(2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					judge(b, r)
				}
			})
		})
	}
}

// BenchmarkHandler is what the handler itself costs, beside the connection: fields,
// answer and marks.
func BenchmarkHandler(b *testing.B) {
	r := newHandler(b, rspamd.TCP, nil)
	raw := fourKilobytes()
	b.ReportAllocs()
	for b.Loop() {
		tx := newTransaction(b, raw)
		removeMarks(tx)
		rendered, err := tx.Rendered()
		if err != nil {
			b.Fatal(err)
		}
		r.fields(tx)
		found, err := parseAnswer([]byte(seen))
		if err != nil {
			b.Fatal(err)
		}
		r.judge(tx, found, rendered.Head(), 0)
	}
}
