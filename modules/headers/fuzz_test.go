package headers

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// FuzzHandle changes messages of strangers: of the fields to be removed none is left,
// those that are added are there once, and the others and the body are as they came.
func FuzzHandle(f *testing.F) {
	for _, seed := range []string{
		"X-Old: 1\r\nFrom: a@example.org\r\n\r\nbody\r\n", "x-old : 1\r\n folded\r\n\r\n", "X-Old\r\n\r\n", "X-New: theirs\r\n\r\n", "\r\n", "", "X-Old: 1",
		"From: a\nX-Old: b\n\nbody", "X-Old:\r\n\tX-Old: 2\r\n\r\nX-Old: body",
	} {
		f.Add(seed)
	}
	h := &Headers{Remove: []string{"X-Old", "X-New"}, Add: map[string]string{"X-New": "ours"}, Require: []string{"From"}, Missing: "tag"}
	if err := h.Provision(nil); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		m, err := mail.NewMessage([]byte(raw))
		if err != nil || strings.HasPrefix(raw, " ") || strings.HasPrefix(raw, "\t") {
			return // listeners refuse what would go on in the field above
		}
		tx := mail.NewTransaction("t1", &mail.Session{RemoteAddr: netip.MustParseAddrPort("192.0.2.1:1")}, time.Unix(0, 0))
		tx.Stage, tx.Message = mail.StageData, m
		v, err := h.Handle(t.Context(), tx)
		if err != nil || v.Action != mail.ActionContinue || v.Reason != mail.Printable(v.Reason, 512) {
			t.Fatalf("%+v, %v", v, err)
		}
		r, err := tx.Rendered()
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := mail.ParseHeaderSection(r.Head())
		if err != nil {
			t.Fatal(err)
		}
		if got.Count("X-Old") != 0 || got.Count("X-New") != 1 || got.Get("X-New") != "ours" {
			t.Errorf("%q becomes\n%s", raw, r.Head())
		}
		var kept strings.Builder
		for _, field := range m.Header.Fields {
			if !strings.EqualFold(field.Name, "X-Old") && !strings.EqualFold(field.Name, "X-New") {
				kept.Write(field.Raw)
			}
		}
		if !strings.Contains(string(r.Head()), kept.String()) {
			t.Errorf("%q loses what it should keep:\n%s", raw, r.Head())
		}
	})
}
