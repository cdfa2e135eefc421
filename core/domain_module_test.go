package core_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

// plate is a block of a domain that writes down its life.
type plate struct {
	Name string `config:"name,label,optional"`
	Text string `config:"text,required"`

	journal *journal
	domain  string
	before  int // plates of the domain in front of it
}

func (*plate) Module() core.Info { return core.Info{ID: "domain.plate"} }

func (p *plate) Provision(c *core.Context) error {
	p.domain, p.before = c.Domain(), len(core.DomainModules[*plate](c, c.Domain()))
	p.journal.add("provision %s %s of %s behind %d", c.Name(), p.Text, p.domain, p.before)
	return nil
}

func (p *plate) Validate() core.Problems {
	var ps core.Problems
	if p.Text == "rude" {
		ps.Errorf("text", "the plate of %s is rude", p.domain)
	}
	return ps
}

func (p *plate) Start() error { p.journal.add("start %s", p.Text); return nil }

func (p *plate) Cleanup() error { p.journal.add("cleanup %s", p.Text); return nil }

// reader is a handler that says what stands on the plates of the recipient's domain.
type reader struct {
	Prefix string `config:"prefix"`

	texts map[string]string
}

func (*reader) Module() core.Info { return core.Info{ID: "handler.reader"} }

func (r *reader) Provision(c *core.Context) error {
	r.texts = make(map[string]string)
	for _, d := range c.Domains().All() {
		for _, p := range core.DomainModules[interface{ text() string }](c, d.Name) {
			r.texts[d.Name] += p.text()
		}
	}
	return nil
}

func (p *plate) text() string { return p.Text }

func (r *reader) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	return mail.Continue(r.Prefix + r.texts[tx.Recipient.Address.Domain]), nil
}

func plateRegistry(j *journal) *core.Registry {
	r := newRegistry(j)
	r.Register(describe{core.Info{ID: "domain.plate", New: func() core.Module { return &plate{journal: j} }}})
	r.Register(describe{core.Info{ID: "handler.reader", Stages: mail.AtRcpt, New: func() core.Module { return new(reader) }}})
	return r
}

const plates = head + `
domain "a.test" {
  plate { text = "one" }
  plate "second" { text = "two" }
}
domain "b.test" {
  settings "reader" { prefix = "tuned " }
  plate { text = "three" }
}
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    reader {}
    sink {}
  }
}
`

func texts(t *testing.T, h core.Host, domain string) (string, error) {
	t.Helper()
	list, err := core.DomainModulesOf[interface{ text() string }](t.Context(), h, domain)
	var all []string
	for _, p := range list {
		all = append(all, p.text())
	}
	return strings.Join(all, " "), err
}

// TestDomainModules: they live as long as a configuration, and handlers find them, those
// too that a domain tunes.
func TestDomainModules(t *testing.T) {
	t.Parallel()
	j := new(journal)
	path := file(t, plates)
	o := options(t, path, plateRegistry(j))
	s := start(t, o)
	checked := []string{"provision plate one of a.test behind 0", "provision second two of a.test behind 1", "provision plate three of b.test behind 0"}
	ended := []string{"cleanup three", "cleanup two", "cleanup one"}
	want := append(append(append([]string{}, checked...), ended...), append(checked, "start one", "start two", "start three")...)
	if diff := cmp.Diff(want, j.take()); diff != "" {
		t.Errorf("life (-want +got):\n%s", diff)
	}
	c := dial(t, s.Addresses("in")[0])
	for to, want := range map[string]string{"x@a.test": "reader=onetwo;sink=;", "x@b.test": "reader=tuned three;sink=;", "x@c.test": "reader=;sink=;"} {
		if got := c.ask(to); got != want {
			t.Errorf("%s: %s, want %s", to, got, want)
		}
	}
	tune(t, s, "a.test", "reader.prefix", `"mine "`)
	if got := c.ask("x@a.test"); got != "reader=mine onetwo;sink=;" {
		t.Errorf("tuned: %s", got)
	}
	if got, err := texts(t, s, "a.test"); got != "one two" || err != nil {
		t.Errorf("of the server: %q, %v", got, err)
	}
	exported, err := s.Tuning().Export(t.Context())
	if text := string(exported[path]); err != nil || !strings.Contains(text, "  plate \"second\" { text = \"two\" }\n") || !strings.Contains(text, "prefix = \"mine \"") {
		t.Errorf("exported: %v\n%s", err, text)
	} else if ds, _ := core.Validate(options(t, file(t, text), o.Registry)); len(ds) > 0 {
		t.Errorf("what is exported has mistakes: %v", ds.Err())
	}
	j.take()
	write(t, path, strings.Replace(plates, `"two"`, `"deux"`, 1))
	if ds, _, err := s.Reload(t.Context()); err != nil {
		t.Fatal(err, ds.Err())
	}
	fresh := dial(t, s.Addresses("in")[0])
	if got := fresh.ask("x@a.test"); got != "reader=mine onedeux;sink=;" {
		t.Errorf("after a reload: %s", got)
	}
	if got, err := texts(t, s, "a.test"); got != "one deux" || err != nil {
		t.Errorf("of the server after a reload: %q, %v", got, err)
	}
	_, _ = c.conn.Close(), fresh.conn.Close()
	j.await(t, "cleanup two")
	stop(t, s)
	if _, err := texts(t, s, "a.test"); err == nil {
		t.Error("a server that has stopped has modules")
	}
}

// TestDomainModulesOffline: without a server they are those of the file, and only what
// they stand in must be right.
func TestDomainModulesOffline(t *testing.T) {
	t.Parallel()
	j := new(journal)
	path := file(t, strings.Replace(strings.Replace(plates, `"three"`, `"rude"`, 1), "sink", "sank", 1))
	host, ds, _, err := core.OpenOffline(t.Context(), options(t, path, plateRegistry(j)))
	if err != nil {
		t.Fatal(err, ds.Err())
	}
	for range 2 {
		if got, err := texts(t, host, "a.test"); got != "one two" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := texts(t, host, "b.test"); !errors.Is(err, core.ErrInvalid) || !strings.Contains(err.Error(), "the plate of b.test is rude") {
		t.Errorf("error %v", err)
	}
	if got, err := texts(t, host, "c.test"); got != "" || err != nil {
		t.Errorf("of no domain: %q, %v", got, err)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	want := []string{
		"provision plate one of a.test behind 0", "provision second two of a.test behind 1",
		"provision plate rude of b.test behind 0", "cleanup rude", "cleanup two", "cleanup one",
	}
	if diff := cmp.Diff(want, j.take()); diff != "" {
		t.Errorf("life (-want +got):\n%s", diff)
	}
}

func TestDiagnosticsOfDomainModules(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"good":                 {`plate { text = "x" }`, nil},
		"near":                 {`plaet { text = "x" }`, []string{`6:1 error[config/unknown-block]: domain "a.test" has no block "plaet" | Did you mean "plate"?`}},
		"unknown":              {`something {}`, []string{`6:1 error[config/unknown-block]: domain "a.test" has no block "something" | Its blocks are: chain, plate, settings.`}},
		"handler":              {`probe {}`, []string{`6:1 error[config/unknown-block]: domain "a.test" has no block "probe" | probe is a handler: it stands in a chain { … } of a listener.`}},
		"attribute as a block": {`aliases {}`, []string{`6:1 error[config/unknown-block]: "aliases" is an attribute, not a block | Write aliases = { "name" = ["text"] }.`}},
		"what it has not":      {`plate { txet = "x" }`, []string{`6:9 error[config/unknown-attribute]: plate has no attribute "txet" | Did you mean "text"?`}},
		"its own mistake":      {`plate { text = "rude" }`, []string{`6:16 error[domain.plate]: the plate of a.test is rude`}},
		"one too many labels":  {`plate "a" "b" { text = "x" }`, []string{`6:11 error[config/unknown-label]: plate "a" "b": the label "b" is one too many | Remove it: the labels of plate are "name".`}},
		"for all":              {"}\ndomain \"*\" {\nplate { text = \"x\" }", []string{`8:1 error[domain/template]: plate is for one domain, not for all | Move it into the block of the domain that it is meant for.`}},
		"twice, of which one is wrong": {"plate { text = 1 }\nplate { text = \"rude\" }", []string{
			`6:16 error[config/wrong-type]: attribute "text" must be a string | Here stands a number. Write it as text = "text".`, `7:16 error[domain.plate]: the plate of a.test is rude`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ds, _ := core.Validate(options(t, file(t, head+"domain \"a.test\" {\n"+tt.text+"\n}\n"), plateRegistry(new(journal))))
			compareTold(t, ds, tt.want)
		})
	}
}
