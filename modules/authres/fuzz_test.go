package authres

import (
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

// FuzzStrip takes forged fields out of a message. None is left that a reader takes for
// ours, and none goes that is somebody else's for sure.
func FuzzStrip(f *testing.F) {
	for _, seed := range []string{
		"mx.example.test; dkim=pass", "mx.example.net; dkim=pass", "(a) MX.example.TEST 1; spf=pass", "\"mx.example.test\"; none",
		"mx.example.test\r\n ; spf=pass", "mx.example.test.; none", "mx\\.example.test; none", "; spf=pass", "", "mx.example.test(",
	} {
		f.Add(seed, "x")
	}
	f.Add("mx.example.net", "Authentication-Results : mx.example.test; spf=pass")
	h := &AuthRes{Field: "Authentication-Results", id: "mx.example.test"}
	f.Fuzz(func(t *testing.T, value, more string) {
		const theirs = "Authentication-Results: mx.example.net; dkim=pass header.d=example.net\r\n"
		m, err := mail.NewMessage([]byte("From: a@example.org\r\n" + theirs + "authentication-RESULTS: " + value + "\r\n" + more + "\r\n\r\n"))
		if err != nil {
			return
		}
		tx := transaction(t, "")
		tx.Message = m
		v, err := h.Handle(t.Context(), tx)
		if err != nil || v.Action != mail.ActionContinue || v.Reason != mail.Printable(v.Reason, 512) {
			t.Fatalf("%+v, %v", v, err)
		}
		r, err := tx.Rendered()
		if err != nil {
			t.Fatal(err)
		}
		head := string(r.Head())
		if !strings.Contains(head, theirs) {
			t.Errorf("%q takes out what is somebody else's:\n%s", value, head)
		}
		section, _, err := mail.ParseHeaderSection(r.Head())
		if err != nil {
			t.Fatal(err)
		}
		ours := 0
		for field := range section.All("Authentication-Results") {
			if id, _, err := mail.ParseAuthResults(field.Value()); err == nil && strings.EqualFold(strings.TrimRight(id, "."), "mx.example.test") {
				ours++
			}
		}
		if ours > 1 || ours == 1 && !strings.HasPrefix(head, "Authentication-Results: mx.example.test;") {
			t.Errorf("%d fields are left that are ours:\n%s", ours, head)
		}
	})
}
