package senderlogin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	_ "github.com/mox-like/mox-like/modules/accounts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const source = `
server {
  hostname   = "mx.example.test"
  postmaster = "alice@example.test"
}
domain "example.test" {
  aliases = {
    Sales      = ["alice", "bob"]
    info       = ["sales"]
    "team+x"   = ["carol"]
    team       = ["alice"]
    bob        = ["alice"]
    loop       = ["loop2@example.test"]
    loop2      = ["loop"]
    tagged     = ["alice+box"]
    abroad     = ["office@bücher.example"]
    eve        = ["alice", "eve"]
    d1 = ["d2"]
    d2 = ["d3"]
    d3 = ["d4"]
    d4 = ["d5"]
    d5 = ["d6"]
    d6 = ["d7"]
    d7 = ["d8"]
    d8 = ["d9"]
    d9 = ["d10"]
    d10 = ["d11"]
    d11 = ["alice"]
  }
  catch_all = "alice"
}
domain "bücher.example" {
  aliases = {
    office     = ["alice@example.test"]
    postmaster = ["carol@example.test"]
  }
}
`

// people is a service of accounts that a test makes.
type people struct {
	all []string
	err error
}

func (p people) Exists(_ context.Context, address string) (bool, error) {
	return slices.Contains(p.all, address), p.err
}

var everybody = people{all: []string{"alice@example.test", "bob@example.test", "carol@example.test", "eve@example.test", "alice+own@example.test", "ü@bücher.example"}}

func load(tb testing.TB, settings string) *SenderLogin {
	tb.Helper()
	s := coretest.Load[*SenderLogin](tb, coretest.New(tb, coretest.Options{Source: source}), "handler.sender_login", "sender_login {\n"+settings+"\n}")
	s.accounts = everybody
	return s
}

func transaction(tb testing.TB, user, from string) *mail.Transaction {
	tb.Helper()
	tx := mail.NewTransaction("tx", &mail.Session{ID: "session", User: user}, time.Unix(1_800_000_000, 0))
	tx.Stage = mail.StageMail
	if from != "" {
		var err error
		if tx.Envelope.ReversePath, err = mail.ParseAddress(from); err != nil {
			tb.Fatal(err)
		}
	}
	return tx
}

func TestReversePath(t *testing.T) {
	t.Parallel()
	const rules = `allow = {
		"alice@example.test" = ["news@example.org", "@example.net"]
		"Bob@example.test"   = ["*"]
		"@bücher.example"    = ["shop@xn--bcher-kva.example"]
		"*"                  = ["Help@Example.org"]
	}`
	tests := map[string]struct {
		settings, user, from string
		refused              bool
	}{
		"own address":                  {"", "alice@example.test", "alice@example.test", false},
		"own address, other case":      {"", "alice@example.test", "Alice@Example.TEST", false},
		"subaddress":                   {"", "alice@example.test", "alice+news@example.test", false},
		"account with a plus":          {"", "alice@example.test", "alice+own@example.test", true},
		"its owner":                    {"", "alice+own@example.test", "alice+own@example.test", false},
		"its owner without it":         {"", "alice+own@example.test", "alice@example.test", true},
		"another user":                 {"", "alice@example.test", "eve@example.org", true},
		"another user here":            {"", "bob@example.test", "alice@example.test", true},
		"another domain":               {"", "alice@example.test", "alice@example.org", true},
		"alias":                        {"", "bob@example.test", "sales@example.test", false},
		"alias with subaddress":        {"", "bob@example.test", "Sales+1@example.test", false},
		"alias of others":              {"", "eve@example.test", "sales@example.test", true},
		"alias of an alias":            {"", "bob@example.test", "info@example.test", false},
		"alias over a domain":          {"", "alice@example.test", "abroad@example.test", false},
		"alias to a subaddress":        {"", "alice@example.test", "tagged@example.test", false},
		"alias with a plus":            {"", "alice@example.test", "team+x@example.test", true},
		"its reader":                   {"", "carol@example.test", "team+x@example.test", false},
		"alias without it":             {"", "alice@example.test", "team+y@example.test", false},
		"alias of the account's name":  {"", "alice@example.test", "bob@example.test", false},
		"account under that alias":     {"", "bob@example.test", "bob+x@example.test", false},
		"alias that names itself":      {"", "eve@example.test", "eve@example.test", false},
		"reader of that alias":         {"", "alice@example.test", "eve@example.test", false},
		"aliases in a circle":          {"", "alice@example.test", "loop@example.test", true},
		"aliases too deep":             {"", "alice@example.test", "d1@example.test", true},
		"aliases not too deep":         {"", "alice@example.test", "d2@example.test", false},
		"catch_all":                    {"", "alice@example.test", "anybody@example.test", true},
		"A-labels":                     {"", "alice@example.test", "office@xn--bcher-kva.example", false},
		"user in U-labels":             {"", "ü@bücher.example", "ü@xn--bcher-kva.example", false},
		"postmaster":                   {"", "alice@example.test", "Postmaster@example.test", false},
		"postmaster of others":         {"", "bob@example.test", "postmaster@example.test", true},
		"postmaster by alias":          {"", "carol@example.test", "postmaster@bücher.example", false},
		"postmaster's, not by alias":   {"", "alice@example.test", "postmaster@bücher.example", true},
		"postmaster elsewhere":         {"", "alice@example.test", "postmaster@example.org", true},
		"postmaster alone":             {"", "alice@example.test", "postmaster", true},
		"quoted local-part":            {"", "alice@example.test", `"alice@example.test"@example.org`, true},
		"null reverse-path":            {"", "alice@example.test", "", false},
		"null reverse-path refused":    {`null_reverse_path = "reject"`, "alice@example.test", "", true},
		"rule":                         {rules, "alice@example.test", "News@example.org", false},
		"rule, subaddress":             {rules, "alice@example.test", "news+1@example.org", false},
		"rule, another address":        {rules, "alice@example.test", "old@example.org", true},
		"rule, domain":                 {rules, "alice@example.test", "any@example.net", false},
		"rule, subdomain":              {rules, "alice@example.test", "any@mail.example.net", true},
		"rule for another user":        {rules, "eve@example.test", "news@example.org", true},
		"rule, anything":               {rules, "bob@example.test", "any@example.com", false},
		"rule for everybody":           {rules, "eve@example.test", "help@example.org", false},
		"rule for a domain":            {rules, "ü@bücher.example", "shop@bücher.example", false},
		"rule for a domain, elsewhere": {rules, "eve@example.test", "shop@bücher.example", true},
		"nobody has logged in":         {"", "", "eve@example.org", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := load(t, tt.settings).Handle(t.Context(), transaction(t, tt.user, tt.from))
			if err != nil {
				t.Fatal(err)
			}
			if refused := v.Action == mail.ActionReject; refused != tt.refused || v.Reason == "" {
				t.Errorf("verdict %+v", v)
			}
			if tt.refused && !strings.HasPrefix(v.Reply.String(), "553 5.7.1 ") {
				t.Errorf("reply %q", v.Reply)
			}
		})
	}
}

func TestHeader(t *testing.T) {
	t.Parallel()
	const mine = "From: alice@example.test\r\n"
	tests := map[string]struct {
		header string
		want   string // what the reason must have, "" if the message passes
	}{
		"own address":               {mine, ""},
		"with a name":               {"From: \"A. Example\" <Alice+x@Example.TEST>\r\n", ""},
		"encoded name":              {"From: =?utf-8?q?=C3=9C?= <alice@example.test>\r\n", ""},
		"name in another charset":   {"From: =?gb18030?b?xOO6ww==?= <alice@example.test>\r\n", ""},
		"comment":                   {"From: alice@example.test (it is (really) me)\r\n", ""},
		"fold":                      {"From: Alice\r\n <alice@example.test>\r\n", ""},
		"alias":                     {"From: sales@example.test\r\n", ""},
		"two of his":                {"From: alice@example.test, sales@example.test\r\n", ""},
		"group":                     {"From: Us: alice@example.test, team@example.test;\r\n", ""},
		"A-labels":                  {"From: office@xn--bcher-kva.example\r\n", ""},
		"Sender, too":               {mine + "Sender: sales@example.test\r\n", ""},
		"Reply-To is free":          {mine + "Reply-To: eve@example.org\r\n", ""},
		"another user":              {"From: eve@example.org\r\n", "From names eve@example.org"},
		"second of two":             {"From: alice@example.test, eve@example.org\r\n", "From names eve@example.org"},
		"in a group":                {"From: Us: alice@example.test, eve@example.org;\r\n", "From names eve@example.org"},
		"his address as the name":   {"From: \"alice@example.test\" <eve@example.org>\r\n", "From names eve@example.org"},
		"his address quoted":        {"From: \"alice@example.test,\"@example.org\r\n", "From names"},
		"Sender of another":         {mine + "Sender: eve@example.org\r\n", "Sender names eve@example.org"},
		"no From":                   {"Subject: hi\r\n", "no From field"},
		"two From":                  {mine + "FROM: alice@example.test\r\n", "more than one From"},
		"space before the colon":    {mine + "From : eve@example.org\r\n", "more than one From"},
		"two Sender":                {mine + "Sender: alice@example.test\r\nSender: alice@example.test\r\n", "more than one Sender"},
		"two in Sender":             {mine + "Sender: alice@example.test, sales@example.test\r\n", "more than one mailbox"},
		"empty":                     {"From:\r\n", "read From"},
		"empty group":               {"From: nobody:;\r\n", "no mailbox"},
		"no address":                {"From: Alice\r\n", "read From"},
		"two angles":                {"From: <alice@example.test> <eve@example.org>\r\n", "read From"},
		"address before the angles": {"From: alice@example.test <eve@example.org>\r\n", "read From"},
		"source route":              {"From: <@example.org:alice@example.test>\r\n", "read From"},
		"NUL":                       {"From: alice@example.test\x00\r\n", "read From"},
		"not UTF-8":                 {"From: \xff <alice@example.test>\r\n", "read From"},
		"bad domain":                {"From: alice@-example.test\r\n", "read From"},
		"broken Sender":             {mine + "Sender: alice\r\n", "read Sender"},
		"name with a control":       {"From\x0b: eve@example.org\r\n" + mine, "no field"},
		"name after a BOM":          {"\xef\xbb\xbfFrom: eve@example.org\r\n" + mine, "no field"},
		"name with a fold":          {"From\r\n : eve@example.org\r\n" + mine, "no field"},
		"name with a wide space":    {mine + "From\u00a0: eve@example.org\r\n", "no field"},
		"line without a colon":      {mine + "From eve@example.org\r\n", "no field"},
		"too many":                  {"From: " + strings.Repeat("alice@example.test,", 101) + "alice@example.test\r\n", "more than 100"},
	}
	handlers := map[string]*SenderLogin{}
	for _, mode := range []string{"reject", "tag", "ignore"} {
		handlers[mode] = load(t, `header_from = "`+mode+`"`)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for mode, s := range handlers {
				tx := transaction(t, "alice@example.test", "alice@example.test")
				tx.Stage = mail.StageData
				var err error
				if tx.Message, err = mail.NewMessage([]byte(tt.header + "\r\nhi\r\n")); err != nil {
					t.Fatal(err)
				}
				v, err := s.Handle(t.Context(), tx)
				if err != nil {
					t.Fatal(err)
				}
				checkHeader(t, mode, tt.want, v, tx.Tags())
			}
		})
	}
}

func checkHeader(t *testing.T, mode, want string, v mail.Verdict, tags []string) {
	t.Helper()
	clear := strings.Contains(want, " names ")
	action := mail.ActionContinue
	if want != "" && (mode == "reject" || mode == "tag" && !clear && !strings.HasSuffix(want, " names")) {
		action = mail.ActionReject
	}
	if v.Action != action {
		t.Errorf("%s: verdict %+v", mode, v)
	}
	if action == mail.ActionReject && !strings.HasPrefix(v.Reply.String(), "550 5.7.1 ") {
		t.Errorf("%s: reply %q", mode, v.Reply)
	}
	if mode != "ignore" && !strings.Contains(v.Reason, want) {
		t.Errorf("%s: reason %q, want %q", mode, v.Reason, want)
	}
	tagged := mode == "tag" && want != "" && action == mail.ActionContinue
	if got := strings.Join(tags, " "); tagged != (got == "sender_login=fail") || !tagged && got != "" {
		t.Errorf("%s: tags %q", mode, got)
	}
}

// TestAccountsInTrouble finds that nobody passes because the accounts cannot be
// asked.
func TestAccountsInTrouble(t *testing.T) {
	t.Parallel()
	s := load(t, "")
	s.accounts = people{err: errors.New("disk on fire")}
	v, err := s.Handle(t.Context(), transaction(t, "alice@example.test", "carol@example.test"))
	if err != nil || v.Action != mail.ActionDefer || !strings.Contains(v.Reason, "disk on fire") || strings.Contains(v.Reply.Text, "fire") {
		t.Errorf("verdict %+v, %v", v, err)
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		`allow = { "alice" = ["*"] }`:                           `"alice" is neither`,
		`allow = { "alice@example.test" = ["sales"] }`:          `"sales" is neither`,
		`allow = { "@a..b" = ["sales@example.org"] }`:           `"@a..b" is neither`,
		`allow = { "a@example.test" = ["postmaster"] }`:         `"postmaster" is neither`,
		`allow = { "a@example.test" = ["x@example.org", "@"] }`: `"@" is neither`,
		`header_from = "drop"`:                                  "header_from",
		`null_reverse_path = "tag"`:                             "null_reverse_path",
	} {
		_, err := coretest.New(t, coretest.Options{}).Load(t.Context(), "handler.sender_login", "sender_login {\n"+settings+"\n}")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", settings, err)
		}
	}
}

// FuzzSenders holds that what a header names can be printed and read again, and
// that nothing is named where a doubt is.
func FuzzSenders(f *testing.F) {
	for _, s := range []string{
		"From: alice@example.test\r\n", "From: \"A, B\" <a@example.test>, c@example.org\r\nSender: d@example.org\r\n",
		"From: g: a@b, \"c d\"@e;\r\n", "From: =?utf-8?q?=C3=9C?= <\"a\\\"b\"@xn--bcher-kva.example>\r\n", "From: a@[192.0.2.1] (c)\r\n",
		"From: a@b\r\nfrom: c@d\r\n", "From: <@a:b@c>\r\n", "From:\r\n\tü@bücher.example\r\n", "Sender: x\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, _, err := mail.ParseHeaderSection([]byte(text))
		if err != nil {
			return
		}
		list, err := senders(h)
		if err != nil {
			return
		}
		if h.Count("From") != 1 || len(list) == 0 || len(list) > maxSenders+1 {
			t.Errorf("%d senders of %q", len(list), text)
		}
		for _, s := range list {
			again, err := mail.ParseAddress(s.address.String())
			if err != nil || again != s.address || s.address.Domain == "" {
				t.Errorf("%q names %#v, which reads as %#v, %v", text, s.address, again, err)
			}
		}
	})
}
