package core_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

// tale is a handler with settings of all kinds.
type tale struct {
	Text   string      `config:"text" default:"plain"`
	List   []string    `config:"list"`
	Number int         `config:"number" default:"3"`
	Secret mail.Secret `config:"secret"`
	Run    []string    `config:"run,fileonly"`
	Rule   []taleRule  `config:"rule,block"`
}

type taleRule struct {
	Name   string      `config:"name,label"`
	Points int         `config:"points" default:"1"`
	Key    mail.Secret `config:"key"`
}

func (*tale) Module() core.Info { return core.Info{ID: "handler.tale"} }

func (*tale) Handle(context.Context, *mail.Transaction) (mail.Verdict, error) {
	return mail.Continue("read"), nil
}

// runner is a listener whose chains a test runs.
type runner struct {
	Address []string `config:"address,required"`

	chains *atomic.Pointer[chain.Set]
}

func (*runner) Module() core.Info { return core.Info{ID: "listener.runner"} }

func (l *runner) Provision(c *core.Context) error {
	l.chains.Store(c.Chains())
	return nil
}

func (l *runner) Sockets() []string { return l.Address }

func (*runner) Serve(_ context.Context, listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil //nolint:nilerr // it is closed
		}
		_ = conn.Close()
	}
}

func (*runner) Drain(context.Context) error { return nil }

// inTrace gives the settings of a handler that the trace has of a recipient, without
// defaults unless all is set.
func inTrace(t *testing.T, chains *chain.Set, recipient, handler string, all bool) []string {
	t.Helper()
	address, err := mail.ParseAddress(recipient)
	if err != nil {
		t.Fatal(err)
	}
	tx := mail.NewTransaction("t", &mail.Session{}, tx0)
	tx.Recipient = &mail.Recipient{Address: address}
	chains.Run(t.Context(), mail.StageRcpt, tx)
	var lines []string
	for _, e := range tx.Entries {
		if e.Handler != handler {
			continue
		}
		for _, s := range e.Settings.List() {
			if s.Source == "default" && !all {
				continue
			}
			line := fmt.Sprintf("%s = %s | %s | %s", s.Attribute, s.Value, s.Source, s.Place)
			if !s.Since.IsZero() {
				line += s.Since.Format(" | 15:04")
			}
			lines = append(lines, line)
		}
		if strings.Contains(string(e.Settings.Text()), "topsecret") {
			t.Errorf("a secret is in %s", e.Settings.Text())
		}
	}
	return lines
}

// TestSettingsInTraces: each entry of a trace tells what was in force when the
// handler decided, where it stands, and since when.
func TestSettingsInTraces(t *testing.T) {
	t.Parallel()
	chains := new(atomic.Pointer[chain.Set])
	registry := newRegistry(new(journal))
	registry.Register(describe{core.Info{ID: "handler.tale", Stages: mail.AtRcpt | mail.AtData, StageAttribute: true, New: func() core.Module { return new(tale) }}})
	registry.Register(describe{core.Info{ID: "listener.runner", Stages: mail.AtRcpt | mail.AtData, New: func() core.Module { return &runner{chains: chains} }}})
	text := head + `
listener "runner" "in" {
  address = "127.0.0.1:0"
  chain {
    parallel {
      tale "a" {
        text   = upper("block")
        list   = ["x",
          "y"]
        secret = "topsecret"
        run    = ["sh", "topsecret"]
        mode   = "monitor"
        rule "one" {
          points = 5
          key    = "topsecret"
        }
        rule "two" {}
      }
      tale "b" {}
    }
    sink {}
  }
}
domain "*" {
  settings "b" { number = 4 }
}
domain "own.test" {
  settings "a" {
    text = "file"
    rule "own" {}
  }
}
domain "other.test" {}
`
	var minutes atomic.Int64
	o := options(t, file(t, text), registry)
	o.Now = func() time.Time { return time.Date(2026, 11, 1, 12, int(minutes.Load()), 0, 0, time.UTC) }
	s := start(t, o)
	expect := func(recipient, handler string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, inTrace(t, chains.Load(), recipient, handler, false)); diff != "" {
			t.Errorf("%s: settings of %s (-want +got):\n%s", recipient, handler, diff)
		}
	}
	block := []string{
		`text = "BLOCK" | handler | mox-like.hcl:11`, `list = ["x", "y"] | handler | mox-like.hcl:12`,
		`secret = "****" | handler | mox-like.hcl:14`, `run = (in the file) | handler | mox-like.hcl:15`, `mode = "monitor" | handler | mox-like.hcl:16`,
		`rule "one".points = 5 | handler | mox-like.hcl:18`, `rule "one".key = "****" | handler | mox-like.hcl:19`, `rule "two" =  | handler | mox-like.hcl:21`,
	}
	expect("x@elsewhere.test", "a", block...)
	expect("x@elsewhere.test", "b")
	expect("x@other.test", "b", `number = 4 | file * | mox-like.hcl:29`)
	own := append([]string{`text = "file" | file settings | mox-like.hcl:33`}, block[1:5]...)
	own = append(own, `rule "own" =  | file settings | mox-like.hcl:34`)
	expect("x@own.test", "a", own...)

	minutes.Store(5)
	tune(t, s, "*", "a.number", "7", "b.number", "8")
	minutes.Store(6)
	tune(t, s, "other.test", "b.text", `"db"`, "b.secret", `"topsecret"`)
	expect("x@other.test", "b", `text = "db" | database settings | database: domain other.test | 12:06`, `number = 8 | database * | database: domain * | 12:05`,
		`secret = "****" | database settings | database: domain other.test | 12:06`)
	expect("x@own.test", "a", append(append(own[:2:2], `number = 7 | database * | database: domain * | 12:05`), own[2:]...)...)

	// The same again is not set anew; what is set again after a change is.
	minutes.Store(7)
	tune(t, s, "other.test", "b.text", `"db"`, "b.secret", "")
	expect("x@other.test", "b", `text = "db" | database settings | database: domain other.test | 12:06`, `number = 8 | database * | database: domain * | 12:05`)
	tune(t, s, "other.test", "b.text", `"else"`)
	minutes.Store(8)
	tune(t, s, "other.test", "b.text", `"db"`)
	expect("x@other.test", "b", `text = "db" | database settings | database: domain other.test | 12:08`, `number = 8 | database * | database: domain * | 12:05`)

	// All, with defaults.
	want := []string{
		`text = "plain" | default | `, `list =  | default | `, `number = 3 | default | `, `secret =  | default | `, `run =  | default | `,
		`when =  | default | `, `on_error = "continue" | default | `,
	}
	if diff := cmp.Diff(want, inTrace(t, chains.Load(), "x@elsewhere.test", "b", true)[:len(want)]); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}

	// After a restart the times are those of the rows.
	stop(t, s)
	minutes.Store(30)
	start(t, o)
	expect("x@other.test", "b", `text = "db" | database settings | database: domain other.test | 12:08`, `number = 8 | database * | database: domain * | 12:05`)
	if err := os.Remove(o.ConfigFile); err != nil {
		t.Fatal(err) // what was in force needs the file no more
	}
	expect("x@own.test", "a", append(append(own[:2:2], `number = 7 | database * | database: domain * | 12:05`), own[2:]...)...)
}

// TestLongSettings: a long list is cut, and can be told from another.
func TestLongSettings(t *testing.T) {
	t.Parallel()
	var got []string
	for _, last := range []string{"a", "b"} {
		chains := new(atomic.Pointer[chain.Set])
		registry := newRegistry(new(journal))
		registry.Register(describe{core.Info{ID: "handler.tale", Stages: mail.AtRcpt, New: func() core.Module { return new(tale) }}})
		registry.Register(describe{core.Info{ID: "listener.runner", Stages: mail.AtRcpt, New: func() core.Module { return &runner{chains: chains} }}})
		text := head + `
listener "runner" "in" {
  address = "127.0.0.1:0"
  chain {
    tale { list = [` + strings.Repeat(`"0123456789", `, 1000) + `"` + last + `"] }
    sink {}
  }
}
domain "example.test" {}
`
		start(t, options(t, file(t, text), registry))
		got = append(got, inTrace(t, chains.Load(), "x@example.test", "tale", false)...)
	}
	if len(got) != 2 || got[0] == got[1] || len(got[0]) > 1200 || !strings.Contains(got[0], "bytes, SHA-256") {
		t.Errorf("settings %q", got)
	}
}
