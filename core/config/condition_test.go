package config

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/mox-like/mox-like/core/mail"
)

// FuzzCondition holds that a compiled condition says what HCL says.
func FuzzCondition(f *testing.F) {
	for _, expr := range []string{
		`tx.user != "" && !tx.tls`,
		`tx.size > "1KB" || tx.size <= 5`,
		`cidr_contains("192.0.2.0/24", tx.ip) == tx.tls`,
		`cidr_contains("192.0.2.1", tx.ip)`,
		`contains(["a", "b", 5], lower(tx.helo))`,
		`matches("${tx.helo}:${tx.from}", "^a.*")`,
		`domain_of(trimspace(tx.from)) == upper(tx.from_domain)`,
		`tx.header["Subject"] == tx.helo`,
		`tx.tls ? tx.size > 1 : tx.user == "x"`,
		`!(tx.size == 1.5)`,
	} {
		f.Add(expr, "Client.example.org", "a", []byte("Subject: x\r\n\r\n"), int64(5), true)
		f.Add(expr, "\xff\u0301", "e\u0301", []byte("\r\n"), int64(0), false)
	}
	f.Fuzz(func(t *testing.T, text, helo, local string, message []byte, size int64, encrypted bool) {
		src := []byte("handler {\n  when = " + text + "\n}\n")
		file, _ := Parse("test.hcl", src, Options{ReadFile: func(string) ([]byte, error) { return nil, nil }})
		blocks := file.Root.Blocks("handler")
		if file.Partial || len(blocks) == 0 || blocks[0].Body.Attributes["when"] == nil {
			return
		}
		b := blocks[0]
		source := b.Body.Attributes["when"].Expr
		if w, ds := CompileWhen(b, Expr{source}, 0); ds.HasErrors() != (w == nil) {
			t.Fatalf("%s: %v with %v", text, w, ds)
		} else if w == nil {
			return
		}
		c := &compiler{env: b.environment(), used: make(map[string]input)}
		expr := c.rewrite(source)
		tx := mail.NewTransaction("id", &mail.Session{Helo: helo, RemoteAddr: netip.MustParseAddrPort("192.0.2.1:25")}, time.Time{})
		tx.Envelope = mail.Envelope{ReversePath: mail.Address{LocalPart: local, Domain: "example.org"}, Size: size}
		if encrypted {
			tx.Session.TLS = new(tls.ConnectionState)
		}
		if m, err := mail.NewMessage(message); err == nil {
			tx.Message = m
		}
		compare(t, c, expr, tx)
	})
}

func compare(t *testing.T, c *compiler, expr hclsyntax.Expression, tx *mail.Transaction) {
	t.Helper()
	want, wantErr := c.interpret(expr)(tx)
	got, err := c.truth(expr)(tx)
	if wantErr == nil && (got != want || err != nil) {
		t.Errorf("compiled: %t, %v; HCL: %t", got, err, want)
	}
}
