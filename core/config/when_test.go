package config_test

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// newTransaction gives a transaction at the data stage.
func newTransaction(t testing.TB) *mail.Transaction {
	t.Helper()
	tx := mail.NewTransaction("id", &mail.Session{
		Listener:   "mx",
		RemoteAddr: netip.MustParseAddrPort("[::ffff:192.0.2.7]:4711"),
		Helo:       "client.example.org",
		TLS:        new(tls.ConnectionState),
		User:       "alice@example.org",
	}, time.Time{})
	message, err := mail.NewMessage([]byte("Subject: Gr\u00fc\u00dfe\r\nX-Flag: yes\r\n\tand more\r\nx-flag: no\r\n\r\nbody\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	tx.Stage, tx.Message = mail.StageData, message
	tx.Envelope = mail.Envelope{
		ReversePath: mail.Address{LocalPart: "bob", Domain: "example.net"},
		Recipients: []*mail.Recipient{
			{Address: mail.Address{LocalPart: "alice", Domain: "example.org"}},
			{Address: mail.Address{LocalPart: "carol", Domain: "example.org"}},
		},
		Size: 1000,
	}
	return tx
}

// compile gives the condition of an expression that has no mistakes.
func compile(t testing.TB, expr string) *config.When {
	t.Helper()
	w, ds := tryCompile(t, expr, 0)
	if ds.HasErrors() {
		t.Fatalf("compile %s:\n%s", expr, list(ds))
	}
	return w
}

func tryCompile(t testing.TB, expr string, stages mail.Stages) (*config.When, config.Diagnostics) {
	t.Helper()
	f := parse(t, "variable \"list\" { default = [\"mx\", \"submission\"] }\nvariable \"on\" { default = true }\nhandler {\n  when = "+expr+"\n}\n")
	var c common
	b := f.Root.Blocks()[0]
	if ds := config.Decode(b, &c); len(ds) > 0 {
		t.Fatalf("decode %s:\n%s", expr, list(ds))
	}
	return config.CompileWhen(b, c.When, stages)
}

func TestWhen(t *testing.T) {
	t.Parallel()
	tests := []struct {
		expr string
		want bool
	}{
		{`tx.ip == "192.0.2.7"`, true},
		{`tx.ip != "192.0.2.7"`, false},
		{`tx["ip"] == "192.0.2.7"`, true},
		{`tx.listener == "mx"`, true},
		{`tx.tls`, true},
		{`!tx.tls`, false},
		{`(tx.tls)`, true},
		{`tx.helo == "client.example.org"`, true},
		{`tx.user == "alice@example.org"`, true},
		{`tx.from == "bob@example.net"`, true},
		{`tx.from_domain == "example.net"`, true},
		{`tx.rcpt == "alice@example.org"`, true},
		{`tx.size == 62`, true},
		{`tx.size < "1KB"`, true},
		{`"1KB" <= tx.size`, false},
		{`tx.size > 1024 * 1024`, false},
		{`tx.size >= 62`, true},
		{`tx.size != 62`, false},
		{`tx.size > 61.5`, true},
		{`tx.size + 1 == 63`, true},
		{`tx.size > 1 ? tx.tls : false`, true},
		{`tx.header["Subject"] == "Grüße"`, true},
		{`tx.header["Subject"] == "Gru\u0308\u00dfe"`, true},
		{`tx.header["x-flag"] == "yes\tand more"`, true},
		{`tx.header["None"] == ""`, true},
		{`tx.header[lower("X-Flag")] != ""`, true},
		{`tx.header.Subject != ""`, true},
		{`tx.tls && tx.user == "nobody"`, false},
		{`tx.tls || tx.user == "nobody"`, true},
		{`!(tx.user == "nobody") && !(tx.helo == "")`, true},
		{`cidr_contains("192.0.2.0/24", tx.ip)`, true},
		{`cidr_contains("198.51.100.0/24", tx.ip)`, false},
		{`cidr_contains("192.0.2.0/24", tx.helo)`, false},
		{`cidr_contains("192.0.2.1", "192.0.2.1")`, true},
		{`cidr_contains("2001:db8::1", "2001:db8::2")`, false},
		{`matches(tx.helo, "^client\\.")`, true},
		{`matches(lower(tx.helo), "CLIENT")`, false},
		{`contains(var.list, tx.listener)`, true},
		{`contains(["a", 5, null], tx.listener)`, false},
		{`contains([tx.helo, tx.listener], "mx")`, true},
		{`contains(["gruße"], lower("GRUSSE"))`, false},
		{`domain_of(tx.from) == tx.from_domain`, true},
		{`upper(trimspace(" ${tx.listener} ")) == "MX"`, true},
		{`"${tx.listener}-${tx.user}" == "mx-alice@example.org"`, true},
		{`"${tx.tls}!" == "true!"`, true},
		{`join("|", [tx.listener, tx.ip]) == "mx|192.0.2.7"`, true},
		{`contains([for l in var.list : upper(l)], upper(tx.listener))`, true},
		{`[for l in var.list : l if l == tx.listener][0] == "mx"`, true},
		{`{ mx = true, other = false }[tx.listener]`, true},
		{`split(".", tx.helo)[0] == "client"`, true},
		{`jsondecode("{\"mx\": 5}")[tx.listener] == 5`, true},
		{`jsondecode("true") && tx.tls`, true},
		{`var.on && tx.tls`, true},
		{`var.on`, true},
		{`env("HOST") == tx.helo`, false},
		{`true`, true},
	}
	tx := newTransaction(t)
	for _, test := range tests {
		t.Run(test.expr, func(t *testing.T) {
			t.Parallel()
			got, err := compile(t, test.expr).Eval(tx)
			if err != nil || got != test.want {
				t.Errorf("got %t, %v; want %t", got, err, test.want)
			}
		})
	}
}

// TestWhenRunTimeError holds that what shows only at run time is an error, and
// does not depend on the other side when that decides.
func TestWhenRunTimeError(t *testing.T) {
	t.Parallel()
	tx := newTransaction(t)
	for _, expr := range []string{
		`{ imap = true }[tx.listener]`,
		`jsondecode(tx.helo)`,
		`!jsondecode(tx.helo)`,
		`tx.tls && jsondecode(tx.helo)`,
		`!tx.tls || jsondecode(tx.helo)`,
		`jsondecode(tx.helo) || tx.tls`,
		`jsondecode("[${tx.size}]")[0]`,
		`tx.size > jsondecode(tx.helo)`,
	} {
		if got, err := compile(t, expr).Eval(tx); got || err == nil {
			t.Errorf("%s: got %t and no error", expr, got)
		}
	}
	for _, expr := range []string{`!tx.tls && jsondecode(tx.helo)`, `!(tx.tls || jsondecode(tx.helo))`} {
		if got, err := compile(t, expr).Eval(tx); got || err != nil {
			t.Errorf("%s: got %t, %v", expr, got, err)
		}
	}
}

// TestWhenUser follows the user through a session.
func TestWhenUser(t *testing.T) {
	t.Parallel()
	w := compile(t, `tx.user == "alice@example.org"`)
	nobody := compile(t, `tx.user == ""`)
	tx := mail.NewTransaction("id", &mail.Session{}, time.Time{})
	expect := func(step string, w *config.When) {
		t.Helper()
		if got, err := w.Eval(tx); !got || err != nil {
			t.Errorf("%s: got %t, %v", step, got, err)
		}
	}
	expect("connected", nobody)
	tx.Credentials = &mail.Credentials{Username: "ALICE@Example.Org"}
	expect("claimed", w)
	tx.Credentials.Username = "someone"
	tx.Authenticate("alice@example.org")
	expect("proved", w)
	tx = mail.NewTransaction("id", &mail.Session{User: "alice@example.org"}, time.Time{})
	expect("logged in", w)
}

// TestWhenEmpty holds that every name has a value while the transaction has
// none.
func TestWhenEmpty(t *testing.T) {
	t.Parallel()
	tx := mail.NewTransaction("id", &mail.Session{}, time.Time{})
	w := compile(t, `"${tx.ip}${tx.helo}${tx.user}${tx.from}${tx.from_domain}${tx.rcpt}${tx.listener}${tx.header["A"]}" == "" && tx.size == 0 && !tx.tls`)
	if got, err := w.Eval(tx); !got || err != nil {
		t.Errorf("got %t, %v", got, err)
	}
	tx.Recipient = &mail.Recipient{Address: mail.Address{LocalPart: "dave", Domain: "example.org"}}
	tx.Envelope.Size = 7
	if got, err := compile(t, `tx.rcpt == "dave@example.org" && tx.size == 7`).Eval(tx); !got || err != nil {
		t.Errorf("at rcpt: got %t, %v", got, err)
	}
}

// TestWhenStages holds from which stage on each name is known.
func TestWhenStages(t *testing.T) {
	t.Parallel()
	since := map[string]mail.Stage{
		"tx.ip": mail.StageConnect, "tx.listener": mail.StageConnect, "tx.tls": mail.StageConnect,
		"tx.helo": mail.StageHelo, "tx.user": mail.StageAuth, "tx.from": mail.StageMail,
		"tx.from_domain": mail.StageMail, "tx.size": mail.StageMail, "tx.rcpt": mail.StageRcpt,
		`tx.header["A"]`: mail.StageData,
	}
	for name, first := range since {
		for stage := range mail.Stage(mail.NumStages) {
			expr := fmt.Sprintf(`"${%s}!" == "x"`, name)
			_, ds := tryCompile(t, expr, mail.At(stage))
			known := !ds.HasErrors()
			if known != (stage >= first) {
				t.Errorf("%s at %s: known is %t", name, stage, known)
			}
			if !known && (len(ds) != 1 || ds[0].Code != "expr/not-yet-known") {
				t.Errorf("%s at %s: %s", name, stage, list(ds))
			}
		}
	}
	_, ds := tryCompile(t, `tx.rcpt == "" || tx.rcpt == "a"`, mail.AtMail|mail.AtRcpt|mail.AtData)
	want := `4:10-4:17 error expr/not-yet-known: tx.rcpt is not yet known at the stage mail | It is known from the stage rcpt on, and the handler acts at mail, rcpt, data. Let the handler act at rcpt or data only (stage = "rcpt").`
	if got := list(ds); got != want {
		t.Errorf("two stages of three:\n%s", got)
	}
}

func TestWhenConstant(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		`true`:             `4:10-4:14 warning chain/constant-when: when is always true | Remove it: the handler runs for every message.`,
		`1 > 2 && tx.tls`:  `4:10-4:25 warning chain/constant-when: when is always false | The handler never runs. Remove the handler, or correct the condition.`,
		`var.on`:           ``,
		`!var.on || true`:  ``,
		`tx.tls == tx.tls`: ``,
	} {
		w, ds := tryCompile(t, expr, mail.AtData)
		if got := list(ds); got != want || w == nil {
			t.Errorf("%s:\n%s", expr, got)
		}
	}
}

// TestWhenTypes holds mistakes that the golden files do not have.
func TestWhenTypes(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		`[tx.tls]`:                               "expr/wrong-type",
		`{ a = tx.tls }`:                         "expr/wrong-type",
		`tx.size`:                                "expr/wrong-type",
		`tx.helo ? true : false`:                 "expr/wrong-type",
		`tx.ip.version == 4`:                     "expr/invalid",
		`tx.header["A"].b == ""`:                 "expr/invalid",
		`lower(tx.helo, tx.helo) == ""`:          "expr/function",
		`lowr(tx.helo) == ""`:                    "expr/unknown-function",
		`contains("a", tx.helo)`:                 "expr/function",
		`tx.*.helo == ""`:                        "expr/unknown-name",
		`var.none == tx.helo`:                    "expr/unknown-name",
		`{ (tx.helo) = true }["a"]`:              "expr/unknown-name",
		`file("none") == tx.helo`:                "expr/function",
		`tx.header[tx.helo] == ""`:               "expr/not-constant",
		`tx.header[null] == ""`:                  "expr/unknown-name",
		`tx.arc != "pass"`:                       "expr/unknown-name",
		`"%{for x in [tx.helo]}%{endfor}" == ""`: "expr/unknown-name",
	} {
		w, ds := tryCompile(t, expr, 0)
		if w != nil || len(ds) == 0 || ds[0].Code != want {
			t.Errorf("%s: want %s, got %v\n%s", expr, want, w, list(ds))
		}
	}
}

// TestWhenConcurrent evaluates one condition from many goroutines, with
// transactions of their own.
func TestWhenConcurrent(t *testing.T) {
	t.Parallel()
	w := compile(t, `"${tx.helo}-${tx.ip}" == "yes-192.0.2.1" || (matches(tx.helo, "^yes") && tx.size > 5)`)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			helo := []string{"yes", "no"}[i%2]
			tx := mail.NewTransaction("id", &mail.Session{Helo: helo, RemoteAddr: netip.MustParseAddrPort("192.0.2.1:25")}, time.Time{})
			for range 200 {
				if got, err := w.Eval(tx); err != nil || got != (helo == "yes") {
					t.Errorf("%s: got %t, %v", helo, got, err)
					return
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkWhen(b *testing.B) {
	tx := newTransaction(b)
	for _, expr := range []string{
		`tx.user != ""`,
		`cidr_contains("192.0.2.0/24", tx.ip) && !tx.tls`,
		`tx.size > "1MB" || contains(["mx", "submission"], tx.listener)`,
		`matches(tx.header["Subject"], "^Re:")`,
		`"${tx.listener}-${tx.user}" == "mx"`,
	} {
		b.Run(expr, func(b *testing.B) {
			w := compile(b, expr)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Eval(tx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
