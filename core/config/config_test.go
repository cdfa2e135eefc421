package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

var update = flag.Bool("update", false, "write the golden files")

// deployment is a small configuration language with every feature that decoding
// has.
type deployment struct {
	Server    server          `config:"server,block,required"`
	Log       *logging        `config:"log,block"`
	Listeners []listener      `config:"listener,block"`
	Rest      []*config.Block `config:"domain,body" json:"-"`
}

type server struct {
	Hostname   string     `config:"hostname,required"`
	DataDir    string     `config:"data_dir" default:"/var/lib/mox-like"`
	Postmaster mailAddr   `config:"postmaster"`
	Trusted    []netPref  `config:"trusted"`
	Secret     string     `config:"secret"`
	Sessions   int        `config:"sessions" default:"1000" min:"1" max:"100000"`
	Weights    weights    `config:"weights"`
	Limit      rateOrNone `config:"limit"`
}

type (
	netPref    = netip.Prefix
	weights    = map[string]float64
	rateOrNone = *config.Rate
)

// mailAddr is an address as a module would have it in its settings.
type mailAddr struct{ mail.Address }

func (a *mailAddr) UnmarshalText(text []byte) (err error) {
	a.Address, err = mail.ParseAddress(string(text))
	return err
}

type logging struct {
	Level  string   `config:"level" default:"info" values:"debug,info,warn,error"`
	Output []string `config:"output" default:"stderr" values:"stderr,stdout,journal"`
}

type listener struct {
	Kind    string        `config:"kind,label"`
	Name    string        `config:"name,label,optional"`
	Address []string      `config:"address,required"`
	MaxSize config.Size   `config:"max_size" default:"50MB" min:"1KB" max:"1GB"`
	Timeout time.Duration `config:"timeout" default:"5m" min:"1s"`
	Limits  limits        `config:"limits,block"`
	Chain   *config.Block `config:"chain,body" json:"-"`
}

type limits struct {
	Sessions int `config:"sessions" default:"100"`
}

// common is what every handler has.
type common struct {
	Name    string        `config:"name,label,optional"`
	When    config.Expr   `config:"when"`
	Timeout time.Duration `config:"timeout"`
}

type ratelimit struct {
	Key   []string    `config:"key,required" values:"ip,user,domain"`
	Limit config.Rate `config:"limit" default:"100/1h"`
	Burst int         `config:"burst" min:"0"`
}

type nothing struct{}

// handlers are the handlers of the test's language with their stages.
var handlers = map[string]struct {
	settings func() any
	stages   mail.Stages
}{
	"ratelimit": {func() any { return new(ratelimit) }, mail.AtConnect | mail.AtRcpt},
	"scan":      {func() any { return new(nothing) }, mail.AtData},
	"deliver":   {func() any { return new(nothing) }, mail.AtRcpt | mail.AtData},
}

// check does what a server would do with a file.
func check(f *config.File) (*deployment, config.Diagnostics) {
	var d deployment
	ds := config.Decode(f.Root, &d)
	for _, l := range d.Listeners {
		if l.Chain == nil {
			continue
		}
		for _, b := range l.Chain.Blocks() {
			h, ok := handlers[b.Type]
			if !ok {
				ds.Errorf(b.TypeRange, "chain/unknown-handler", "there is no handler %q", b.Type)
				continue
			}
			var c common
			ds.Append(config.Decode(b, &c, h.settings()))
			if c.When.IsSet() {
				_, more := config.CompileWhen(b, c.When, h.stages)
				ds.Append(more)
			}
		}
	}
	return &d, ds
}

// testEnviron is the environment of all tests.
func testEnviron(name string) (string, bool) {
	value, ok := map[string]string{
		"HOST": "mx.example.org", "MOXLIKE_VAR_port": "2525", "PASSWORD": "correct horse", "NETWORK": "192.0.2.5/24",
		"MOXLIKE_VAR_zones": `["one.example", "two.example"]`,
	}[name]
	return value, ok
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"valid", "warning", "invalid"} {
		names, err := filepath.Glob(filepath.Join("testdata", folder, "*.hcl"))
		if err != nil || len(names) == 0 {
			t.Fatalf("testdata/%s: %d files, %v", folder, len(names), err)
		}
		for _, name := range names {
			t.Run(folder+"/"+strings.TrimSuffix(filepath.Base(name), ".hcl"), func(t *testing.T) {
				t.Parallel()
				testGolden(t, folder, name)
			})
		}
	}
}

func testGolden(t *testing.T, folder, name string) {
	t.Helper()
	f, ds := config.Load(filepath.ToSlash(name), config.Options{Environ: testEnviron, Variables: map[string]string{}})
	d := new(deployment)
	if !f.Partial {
		var more config.Diagnostics
		d, more = check(f)
		ds.Append(more)
	}
	ds.Sort()
	var got bytes.Buffer
	config.Print(&got, ds, f.Sources, config.PrintOptions{})
	errors, warnings := ds.Count()
	switch folder {
	case "valid":
		if errors+warnings > 0 {
			t.Fatalf("diagnostics in a valid file:\n%s", got.String())
		}
		dump, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got.Write(append(dump, '\n'))
	case "warning":
		if errors > 0 || warnings == 0 {
			t.Fatalf("%d errors and %d warnings; want warnings only:\n%s", errors, warnings, got.String())
		}
	case "invalid":
		if errors == 0 {
			t.Fatal("no error")
		}
	}
	compareGolden(t, strings.TrimSuffix(name, ".hcl")+".golden", got.Bytes())
}

func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v; run the test with -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// list gives diagnostics a line each, with ranges.
func list(ds config.Diagnostics) string {
	var b strings.Builder
	for _, d := range ds {
		fmt.Fprintf(&b, "%d:%d-%d:%d %s %s: %s", d.Range.Start.Line, d.Range.Start.Column, d.Range.End.Line, d.Range.End.Column, d.Severity, d.Code, d.Summary)
		if d.Detail != "" {
			fmt.Fprintf(&b, " | %s", d.Detail)
		}
		for _, r := range d.Related {
			fmt.Fprintf(&b, " | %d:%d %s", r.Range.Start.Line, r.Range.Start.Column, r.Message)
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// parse reads a text that has no mistakes.
func parse(t testing.TB, src string) *config.File {
	t.Helper()
	f, ds := config.Parse("test.hcl", []byte(src), config.Options{Environ: testEnviron, ReadFile: noFiles})
	if len(ds) > 0 {
		t.Fatalf("parse:\n%s", list(ds))
	}
	return f
}

func noFiles(name string) ([]byte, error) {
	return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
}
