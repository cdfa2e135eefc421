package greylist

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

func TestAllow(t *testing.T) {
	t.Parallel()
	from := func(ip, sender string) event { return event{ip: ip, from: sender, to: "alice@example.test"} }
	tests := []struct {
		subject, kept string
		yes, no       []event
	}{
		{
			"192.0.2.1", "192.0.2.1",
			[]event{from("192.0.2.1", "bob@example.org"), from("::ffff:192.0.2.1", "")},
			[]event{from("192.0.2.2", "bob@example.org")},
		},
		{
			"192.0.2.77/24", "192.0.2.0/24",
			[]event{from("192.0.2.200", "bob@example.org")},
			[]event{from("192.0.3.1", "bob@example.org"), from("2001:db8::1", "bob@example.org")},
		},
		{
			"::ffff:192.0.2.0/120", "192.0.2.0/24",
			[]event{from("192.0.2.200", "bob@example.org")},
			[]event{from("192.0.3.1", "bob@example.org")},
		},
		{
			"2001:DB8::/32", "2001:db8::/32",
			[]event{from("2001:db8:1::1", "bob@example.org")},
			[]event{from("2001:db9::1", "bob@example.org")},
		},
		{
			"Bob@Example.ORG", "bob@example.org",
			[]event{from("192.0.2.1", "bob@example.org"), from("192.0.2.1", "BOB+x@example.org"), from("192.0.2.1", "prvs=0123abcdef=bob@example.org")},
			[]event{
				from("192.0.2.1", "eve@example.org"), from("192.0.2.1", "bob@sub.example.org"),
				from("192.0.2.1", "SRS0=A=B=example.org=bob@example.net"), from("198.51.100.1", "SRS1=A=example.com==A=B=example.org=bob@example.net"),
			},
		},
		{
			"bounce-#@example.org", "bounce-#@example.org",
			[]event{from("192.0.2.1", "bounce-4711@example.org")},
			[]event{from("192.0.2.1", "bounce-x@example.org")},
		},
		{
			"Example.org", "example.org",
			[]event{from("192.0.2.1", "bob@example.org"), from("192.0.2.1", "bob@a.b.example.org"), from("192.0.2.1", "SRS0=A=B=example.com=bob@example.org")},
			[]event{from("192.0.2.1", "SRS0=A=B=example.org=bob@example.net"), from("192.0.2.1", "bob@notexample.org"), from("192.0.2.1", "bob@org"), from("192.0.2.1", "")},
		},
	}
	for _, tt := range tests {
		t.Run(tt.subject, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, "", coretest.Options{})
			if err := k.service.AllowGreylist(t.Context(), control.Allowed{Subject: tt.subject, Reason: "a partner"}); err != nil {
				t.Fatal(err)
			}
			list, next, err := k.service.GreylistAllowed(t.Context(), control.Page{})
			want := []control.Allowed{{Subject: tt.kept, Reason: "a partner", Created: start}}
			if diff := cmp.Diff(want, list); diff != "" || next != "" || err != nil {
				t.Errorf("list (-want +got), next %q, %v:\n%s", next, err, diff)
			}
			for _, e := range tt.yes {
				k.passes(t, e, "the operator allows "+tt.kept)
			}
			for _, e := range tt.no {
				k.waits(t, e, "first seen")
			}
			if err := k.service.DisallowGreylist(t.Context(), tt.subject); err != nil {
				t.Fatal(err)
			}
			for _, e := range tt.yes {
				if v := handle(t, k.greylist, e); v.Action != mail.ActionDefer {
					t.Errorf("no longer allowed: %s (%s)", v.Action, v.Reason)
				}
			}
			if err := k.service.DisallowGreylist(t.Context(), tt.subject); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("no longer allow what is not allowed: %v", err)
			}
		})
	}
}

func TestAllowedList(t *testing.T) {
	t.Parallel()
	k := newKit(t, "", coretest.Options{})
	for _, reason := range []string{"old", "new"} {
		for _, subject := range []string{"b.example", "a.example", "c.example"} {
			if err := k.service.AllowGreylist(t.Context(), control.Allowed{Subject: subject, Reason: reason, Created: start.Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []control.Allowed
	pages := 0
	for page := (control.Page{Limit: 2}); ; pages++ {
		list, next, err := k.service.GreylistAllowed(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, list...)
		if page.After = next; next == "" {
			break
		}
	}
	var want []control.Allowed
	for _, subject := range []string{"a.example", "b.example", "c.example"} {
		want = append(want, control.Allowed{Subject: subject, Reason: "new", Created: start.Add(time.Hour)})
	}
	if diff := cmp.Diff(want, got); diff != "" || pages != 1 {
		t.Errorf("list (-want +got), %d more pages:\n%s", pages, diff)
	}
	for _, a := range []control.Allowed{
		{Subject: ""},
		{Subject: "no domain"},
		{Subject: "@example.org"},
		{Subject: "192.0.2.0/33"},
		{Subject: "example.org", Reason: string(make([]byte, maxReason+1))},
	} {
		if err := k.service.AllowGreylist(t.Context(), a); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("allow %q: %v", a.Subject, err)
		}
	}
}
