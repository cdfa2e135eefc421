package milter

import (
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// BenchmarkMessage is the whole conversation about a message with a milter that does
// nothing, over TCP.
func BenchmarkMessage(b *testing.B) {
	for name, size := range map[string]int{"4KB": 4 << 10, "25MB": 25 << 20} {
		b.Run(name, func(b *testing.B) {
			discard := make([]byte, 64<<10)
			h := newHandler(b, listen(b, serveQuiet(discard)))
			m, err := mail.NewMessage([]byte("From: a@example.org\r\nTo: b@example.test\r\nSubject: x\r\n\r\n" + strings.Repeat("x", size)))
			if err != nil {
				b.Fatal(err)
			}
			tx := coretest.Transaction(b, mail.StageData, 1)
			tx.Message = m
			b.SetBytes(m.Size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Handle(b.Context(), tx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
