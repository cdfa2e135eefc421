package hook

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// BenchmarkHook tells what a verdict of a shell script and of a web service costs.
func BenchmarkHook(b *testing.B) {
	server := httptest.NewServer(answering(200, "application/json", `{"action":"accept"}`))
	b.Cleanup(server.Close)
	kit := coretest.New(b, coretest.Options{})
	for id, block := range map[string]string{
		"handler.exec": blockOf("exec", command(script(b, `echo '{"action":"accept"}'`))),
		"handler.http": blockOf("http", fmt.Sprintf("url = %q", server.URL)),
	} {
		b.Run(id, func(b *testing.B) {
			h := coretest.Load[core.Handler](b, kit, id, block)
			tx := coretest.Transaction(b, mail.StageData, 1)
			b.ReportAllocs()
			for b.Loop() {
				if v, err := h.Handle(b.Context(), tx); err != nil || v.Action != mail.ActionAccept {
					b.Fatal(v, err)
				}
			}
		})
	}
}
