package quarantine

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// allow releases a message of eve@example.org and allows the author.
func (k *kit) allow(t *testing.T, q *Quarantine, scope, sender string, accounts ...string) control.AllowedHeld {
	t.Helper()
	var list []*mail.Recipient
	for _, a := range accounts {
		list = append(list, to(t, a, a))
	}
	done, err := k.service.AllowHeld(t.Context(), control.AllowAuthor{ID: k.hold(t, q, event{to: list}), Scope: scope, Sender: sender})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// TestAllow: for whom an author is allowed, and whom that does not let in.
func TestAllow(t *testing.T) {
	t.Parallel()
	type given struct{ scope, sender string }
	eve := event{results: dmarcPass()}
	tests := map[string]struct {
		given  given
		e      event
		to     string
		lifted bool
		reason string
	}{
		"user":                  {given{"user", ""}, eve, alice, true, "not held for 1 recipients who allow eve@example.org (dmarc=pass)"},
		"user, another":         {given{"user", ""}, eve, bob, false, "held as"},
		"domain":                {given{"domain", ""}, eve, bob, true, ""},
		"domain, another":       {given{"domain", ""}, eve, carol, false, ""},
		"all":                   {given{"all", ""}, eve, carol, true, ""},
		"other author":          {given{"all", ""}, event{from: "bob@example.org", results: dmarcPass()}, alice, false, ""},
		"sender's domain":       {given{"all", "Example.ORG"}, event{from: "bob@example.org", results: dmarcPass()}, alice, true, ""},
		"subdomain":             {given{"all", "example.org"}, event{from: "bob@a.example.org", results: []mail.AuthResult{result("dmarc", "pass", "header", "from", "a.example.org")}}, alice, true, ""},
		"domain that ends so":   {given{"all", "example.org"}, event{from: "bob@badexample.org", results: []mail.AuthResult{result("dmarc", "pass", "header", "from", "badexample.org")}}, alice, false, ""},
		"forged":                {given{"all", ""}, event{}, alice, false, "; the author is allowed, but neither DMARC, DKIM nor SPF shows that example.org stands behind the message"},
		"dmarc fails":           {given{"all", ""}, event{results: []mail.AuthResult{result("dmarc", "fail", "header", "from", "example.org"), result("spf", "pass", "smtp", "mailfrom", "a@example.org")}}, alice, false, "; the author is allowed, but dmarc=fail"},
		"dmarc of another":      {given{"all", ""}, event{results: []mail.AuthResult{result("dmarc", "pass", "header", "from", "example.com")}}, alice, false, ""},
		"two in From":           {given{"all", ""}, event{from: "eve@example.org, x@example.com", results: dmarcPass()}, alice, false, ""},
		"name like the address": {given{"all", ""}, event{from: `"eve@example.org" <x@example.net>`, results: []mail.AuthResult{result("dmarc", "pass", "header", "from", "example.net")}}, alice, false, ""},
		"two From fields":       {given{"all", ""}, event{from: "eve@example.org\r\nFrom: x@example.net", results: dmarcPass()}, alice, false, ""},
		"virus":                 {given{"all", ""}, event{by: "clamav", results: dmarcPass()}, alice, false, "; the author is allowed, but not what clamav quarantines"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t)
			q := k.load(t, "")
			k.allow(t, q, tt.given.scope, tt.given.sender, alice)
			tt.e.to = []*mail.Recipient{to(t, tt.to, tt.to)}
			trial := k.transaction(t, tt.e)
			trial.Trial = true
			would, err := q.Handle(t.Context(), trial)
			if err != nil || trial.Quarantined() == "" {
				t.Errorf("the trial changes it: %v", err)
			}
			tx := k.transaction(t, tt.e)
			v, err := q.Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			if lifted := v.Action == mail.ActionContinue && tx.Quarantined() == ""; lifted != tt.lifted || !strings.Contains(v.Reason, tt.reason) {
				t.Errorf("%v, quarantine %q; want %v, %q", v, tx.Quarantined(), tt.lifted, tt.reason)
			}
			if want := "trial: " + strings.ReplaceAll(v.Reason, tx.ID, trial.ID); would.Reason != want {
				t.Errorf("the trial says %q, want %q", would.Reason, want)
			}
			if tx.Score() != 7.5 || !slices.Equal(tx.Tags(), []string{"seen"}) {
				t.Errorf("points %g, tags %v", tx.Score(), tx.Tags())
			}
		})
	}
}

// TestAllowedForSome: of a message for several, those who allow the author have it in
// INBOX, and the others in quarantine; but with somebody who is neither, all are held.
func TestAllowedForSome(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q, junk := k.load(t, ""), k.load(t, `to = "junk"`)
	k.allow(t, q, "user", "", alice)
	sales := func() *mail.Recipient { return to(t, "sales@example.test", alice, bob) }
	tests := map[string]struct {
		q           *Quarantine
		to          []*mail.Recipient
		quarantined bool
		held        []string // accounts
		left        []string // accounts that the target delivers to
	}{
		"two":            {q, []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}, false, []string{bob}, []string{alice}},
		"one alias":      {q, []*mail.Recipient{sales()}, false, []string{bob}, []string{alice}},
		"alias and one":  {q, []*mail.Recipient{sales(), to(t, bob, bob)}, false, []string{bob}, []string{alice}},
		"and a stranger": {q, []*mail.Recipient{to(t, alice, alice), sales(), to(t, "x@example.net")}, true, []string{bob, alice}, nil},
		"junk":           {junk, []*mail.Recipient{to(t, alice, alice), to(t, bob, bob)}, true, nil, []string{alice, bob}},
		"junk, alone":    {junk, []*mail.Recipient{to(t, alice, alice)}, false, nil, []string{alice}},
	}
	for name, tt := range tests {
		tx := k.transaction(t, event{to: tt.to, results: dmarcPass()})
		v, err := tt.q.Handle(t.Context(), tx)
		if err != nil || v.Action != mail.ActionContinue || (tx.Quarantined() != "") != tt.quarantined {
			t.Errorf("%s: %v, %v; quarantine %q", name, v, err, tx.Quarantined())
		}
		var left, for_ []string
		for _, r := range tx.Envelope.Recipients {
			if !r.Delivered {
				left = append(left, r.Accounts...)
			}
		}
		for _, h := range held(t, k.service, control.HeldFilter{}) {
			for _, one := range h.For {
				if h.ID == tx.ID {
					for_ = append(for_, one.Account)
				}
			}
		}
		if diff := cmp.Diff(tt.left, left); diff != "" {
			t.Errorf("%s: left to the target (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tt.held, for_); diff != "" {
			t.Errorf("%s: held for (-want +got):\n%s", name, diff)
		}
	}
	k.consistent(t)
}

// TestAllowedAuthors: what is remembered can be listed and undone.
func TestAllowedAuthors(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	q := k.load(t, "")
	done := k.allow(t, q, "user", "", alice, bob)
	want := []control.AllowedAuthor{{Scope: alice, Sender: "eve@example.org", Created: start}, {Scope: bob, Sender: "eve@example.org", Created: start}}
	if diff := cmp.Diff(control.AllowedHeld{Accounts: []string{alice, bob}, Allowed: want}, done); diff != "" {
		t.Errorf("allowed (-want +got):\n%s", diff)
	}
	k.allow(t, q, "domain", "News@Example.org", alice, bob, carol)
	k.allow(t, q, "all", "example.net", alice)
	k.allow(t, q, "all", "example.net", alice) // again
	want = slices.Concat([]control.AllowedAuthor{{Scope: "all", Sender: "example.net", Created: start}}, want, []control.AllowedAuthor{
		{Scope: "example.com", Sender: "news@example.org", Created: start}, {Scope: "example.test", Sender: "news@example.org", Created: start},
	})
	var got []control.AllowedAuthor
	for after := ""; ; {
		list, next, err := k.service.AllowedAuthors(t.Context(), control.Page{After: after, Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, list...)
		if after = next; after == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("allowed, in pages (-want +got):\n%s", diff)
	}
	for _, a := range [][2]string{{"all", "example.net"}, {"Alice@example.test", "Eve@example.ORG"}, {"example.com", "news@example.org"}} {
		if err := k.service.DisallowAuthor(t.Context(), a[0], a[1]); err != nil {
			t.Errorf("disallow %v: %v", a, err)
		}
		if err := k.service.DisallowAuthor(t.Context(), a[0], a[1]); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("disallow %v again: %v", a, err)
		}
	}
	for _, a := range [][2]string{{"*", "a b"}, {"a b", "example.net"}, {"", "example.net"}, {"user", "example.net"}, {"domain", "example.net"}} {
		if err := k.service.DisallowAuthor(t.Context(), a[0], a[1]); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("disallow %v: %v", a, err)
		}
	}
	if n := query(t, k.sandbox.Store(), `SELECT count(*) FROM quarantine_allowed`); n != 2 {
		t.Errorf("%d are left", n)
	}
}

// TestAllowNobody: without an author there must be a sender, and it must be one.
func TestAllowNobody(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	id := k.hold(t, k.load(t, ""), event{from: "undisclosed"})
	for sender, text := range map[string]string{"": "--sender", "a b": `"a b" is no mail address`} {
		_, err := k.service.AllowHeld(t.Context(), control.AllowAuthor{ID: id, Scope: "all", Sender: sender})
		if !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("sender %q: %v", sender, err)
		}
	}
	if k.inbox(t, alice) != 0 {
		t.Error("it was released")
	}
}

func TestAuthenticated(t *testing.T) {
	t.Parallel()
	dkim := func(word, domain string) mail.AuthResult { return result("dkim", word, "header", "d", domain) }
	spf := func(word, name string) mail.AuthResult { return result("spf", word, "smtp", "mailfrom", name) }
	none := result("dmarc", "none", "header", "from", "mail.example.org")
	tests := map[string]struct {
		results []mail.AuthResult
		domain  string
		want    string
	}{
		"nothing":                 {nil, "example.org", ""},
		"dkim":                    {[]mail.AuthResult{dkim("pass", "example.org")}, "example.org", "dkim=pass for example.org"},
		"dkim without record":     {[]mail.AuthResult{none, dkim("fail", "example.org"), dkim("pass", "example.org")}, "example.org", "dkim=pass for example.org"},
		"dkim of one above":       {[]mail.AuthResult{dkim("pass", "example.org")}, "mail.example.org", "dkim=pass for example.org"},
		"dkim of one below":       {[]mail.AuthResult{dkim("pass", "mail.example.org")}, "example.org", ""},
		"dkim of a public suffix": {[]mail.AuthResult{dkim("pass", "co.uk")}, "example.co.uk", ""},
		"dkim of a host of many":  {[]mail.AuthResult{dkim("pass", "github.io")}, "example.github.io", ""},
		"dkim of another":         {[]mail.AuthResult{dkim("pass", "example.com")}, "example.org", ""},
		"dkim without a domain":   {[]mail.AuthResult{{Method: "dkim", Result: "pass"}}, "example.org", ""},
		"dkim that fails":         {[]mail.AuthResult{dkim("fail", "example.org")}, "example.org", ""},
		"dkim in A-labels":        {[]mail.AuthResult{dkim("pass", "xn--bcher-kva.example")}, "bücher.example", "dkim=pass for bücher.example"},
		"spf of an address":       {[]mail.AuthResult{spf("pass", "bounce@example.org")}, "example.org", "spf=pass for example.org"},
		"spf of a domain":         {[]mail.AuthResult{spf("pass", "example.org")}, "example.org", "spf=pass for example.org"},
		"spf softfail":            {[]mail.AuthResult{spf("softfail", "example.org")}, "example.org", ""},
		"spf of HELO":             {[]mail.AuthResult{result("spf", "pass", "smtp", "helo", "example.org")}, "example.org", ""},
		"spf of a trick":          {[]mail.AuthResult{spf("pass", `"a@example.org"@example.com`)}, "example.org", ""},
		"temperror":               {[]mail.AuthResult{result("dmarc", "temperror", "header", "from", "example.org"), dkim("pass", "example.org")}, "example.org", ""},
		"one of two fails":        {[]mail.AuthResult{result("dmarc", "pass", "header", "from", "example.org"), result("dmarc", "fail", "header", "from", "example.com")}, "example.org", ""},
		"another method":          {[]mail.AuthResult{result("arc", "pass", "header", "from", "example.org")}, "example.org", ""},
	}
	for name, tt := range tests {
		if got, why := authenticated(tt.results, tt.domain); got != tt.want || (got == "") == (why == "") {
			t.Errorf("%s: %q because %q, want %q", name, got, why, tt.want)
		}
	}
}

func TestParseAuthor(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"Eve <Eve@Example.org>":               "eve@example.org",
		"eve@example.org":                     "eve@example.org",
		"=?utf-8?q?=C3=9Cber?= <a@b.example>": "a@b.example",
		`"Eve, the first" <eve@example.org>`:  "eve@example.org",
		`<"a b"@example.org>`:                 `"a b"@example.org`,
		`"a@b"@example.org`:                   `"a@b"@example.org`,
		"eve@bücher.example":                  "eve@bücher.example",
		"eve@xn--bcher-kva.example":           "eve@bücher.example",
		"a@example.org, b@example.org":        "",
		"group: a@example.org;":               "a@example.org",
		"group:;":                             "",
		"eve":                                 "",
		"eve@[192.0.2.1]":                     "",
		"eve@":                                "",
		"":                                    "",
		"<a@example.org> <b@example.org>":     "",
	} {
		if got := parseAuthor(value).String(); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func FuzzParseAuthor(f *testing.F) {
	for _, s := range []string{"Eve <eve@example.org>", `"a\"@b"@example.org`, "=?utf-8?b?YQ==?= <a@b.c>", "g: a@b.c;", "a@b.c (x(y))", "<@a,@b:c@d.e>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		a := parseAuthor(value)
		if a.IsNull() {
			return
		}
		again, err := mail.ParseAddress(a.String())
		if err != nil || again != a {
			t.Errorf("%q gives %q, which reads as %v, %v", value, a, again, err)
		}
		if name, err := normalSender(a.String()); err != nil || name != senders(a)[0] {
			t.Errorf("%q: allowed as %q (%v), looked for as %q", value, name, err, senders(a)[0])
		}
	})
}

func TestValidatePlace(t *testing.T) {
	t.Parallel()
	for chain, want := range map[string]int{
		"spf clamav score authres quarantine deliver":  0,
		"clamav quarantine authres deliver":            1,
		"quarantine clamav deliver":                    1,
		"clamav quarantine spamassassin score deliver": 2,
		"greylist quarantine deliver":                  1,
		"quarantine deliver":                           1,
	} {
		modules := strings.Fields(chain)
		if got := new(Quarantine).ValidatePlace(modules, slices.Index(modules, "quarantine")); len(got) != want {
			t.Errorf("%s: %v", chain, got)
		}
	}
}
