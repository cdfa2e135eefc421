package reference

import (
	"bytes"
	"reflect"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// Nap is a module with settings of every kind.
type Nap struct {
	common
	Length time.Duration `config:"length" default:"1m" min:"1s" max:"1h"`
	Mood   string        `config:"mood,required" values:"tired,bored"`
	Bed    *Bed          `config:"bed,block"`
	Plain  string        `config:"plain"`
}

// Bed is a place.
type Bed struct {
	Width  int      `config:"width" min:"60"`
	Pillow []Pillow `config:"pillow,block"`
}

// Pillow is soft.
type Pillow struct {
	Name string          `config:"name,label"`
	Rest []*config.Block `config:",remain"`
}

type common struct {
	Key []string `config:"key"`
}

// Module describes the handler.
func (*Nap) Module() core.Info {
	return core.Info{ID: "handler.nap", Stages: mail.AtConnect | mail.AtRcpt, StageAttribute: true, New: func() core.Module { return new(Nap) }}
}

// service is no module of the file.
type service struct{}

// Module describes the service.
func (service) Module() core.Info {
	return core.Info{ID: "service.bed", New: func() core.Module { return new(service) }}
}

const source = `// Package nap is handler.nap: it sleeps.
//
// More about it.
package nap

// Nap delays clients.
type Nap struct {
	// Length is how long.
	Length int ` + "`config:\"length\"`" + `
	// notes are no setting.
	notes []string
	A, B int ` + "`config:\"ab\"`" + ` // beside, not above
}

type (
	// Plain is a module without settings.
	Plain struct{}
	// Other has nothing to do with it.
	Other struct{ X int }
)

// Module describes.
func (*Plain) Module() core.Info { return core.Info{} }

// Module is no method.
func Module() {}
`

func TestGather(t *testing.T) {
	t.Parallel()
	got, err := Gather(fstest.MapFS{
		"modules/nap/nap.go":      {Data: []byte(source)},
		"modules/nap/nap_test.go": {Data: []byte("package broken; {")},
		"docs/readme.md":          {Data: []byte("# no Go")},
	}, "example.org/mod")
	if err != nil {
		t.Fatal(err)
	}
	want := Comments{
		"example.org/mod/modules/nap":            "Package nap is handler.nap: it sleeps.",
		"example.org/mod/modules/nap.Nap":        "Nap delays clients.",
		"example.org/mod/modules/nap.Nap.Length": "Length is how long.",
		"example.org/mod/modules/nap.Plain":      "Plain is a module without settings.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("comments (-want +got):\n%s", diff)
	}
	if _, err := Gather(fstest.MapFS{"x.go": {Data: []byte("package x; {")}}, "example.org/mod"); err == nil {
		t.Error("a file that does not parse is passed over")
	}
}

// entry gives the one of Nap.
func entry(t *testing.T) Entry {
	t.Helper()
	comments := make(Comments)
	for key, text := range map[string]string{
		"Nap":         "Nap delays clients. It is made for this test,\nand does nothing.\n\nIt has a second paragraph, which is so long that it has to be broken into lines for a terminal.",
		"Nap.Length":  "Length is how long: 1m | 2m.",
		"Nap.Mood":    "Mood says why.",
		"Nap.Bed":     "Bed is where.",
		"Bed.Width":   "Width is in centimetres.",
		"Bed.Pillow":  "Pillow may stand several times.",
		"Pillow.Name": "Name tells them apart.",
		"Pillow.Rest": "Rest is what else lies there.",
		"common.Key":  "Key is what every nap has.",
	} {
		comments["github.com/mox-like/mox-like/core/reference."+key] = text
	}
	registry := new(core.Registry)
	registry.Register(new(Nap))
	registry.Register(service{})
	entries := Entries(registry, comments)
	last := entries[len(entries)-1]
	if last.ID != "handler.nap" {
		t.Fatalf("the last entry is %s, want handler.nap", last.ID)
	}
	return last
}

const wantText = `handler nap

Delays clients. It is made for this test, and does nothing.

It has a second paragraph, which is so long that it has to be broken into
lines for a terminal.

Acts at connect, rcpt. The attribute stage chooses among them.

  key  (list of strings)
      What every nap has.

  length  (duration, from 1s to 1h, default 1m)
      How long: 1m | 2m.

  mood  (string, tired | bored, required)
      Says why.

  bed  (block)
      Where.

  bed.width  (whole number, at least 60)
      In centimetres.

  bed.pillow  (block, any number of them)
      May stand several times.

  bed.pillow.name  (label, required)
      Tells them apart.

  bed.pillow.…  (blocks)
      What else lies there.

  plain  (string)

  stage  (list of strings, connect | rcpt)
      Where the handler acts. Without it, at all of them.

Every handler also has what 'mox-like modules block.handler' explains: a name
of its own, enabled, when, on_error, on_timeout, timeout and mode.
`

func TestPrintText(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := PrintText(&b, entry(t)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantText, b.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

const wantMarkdown = `
### nap

Delays clients. It is made for this test,
and does nothing.

It has a second paragraph, which is so long that it has to be broken into lines for a terminal.

Acts at connect, rcpt. The attribute stage chooses among them.

| setting | value | meaning |
|---|---|---|
| ` + "`key`" + ` | list of strings | What every nap has. |
| ` + "`length`" + ` | duration, from 1s to 1h, default 1m | How long: 1m \| 2m. |
| ` + "`mood`" + ` | string, tired \| bored, required | Says why. |
| ` + "`bed`" + ` | block | Where. |
| ` + "`bed.width`" + ` | whole number, at least 60 | In centimetres. |
| ` + "`bed.pillow`" + ` | block, any number of them | May stand several times. |
| ` + "`bed.pillow.name`" + ` | label, required | Tells them apart. |
| ` + "`bed.pillow.…`" + ` | blocks | What else lies there. |
| ` + "`plain`" + ` | string |  |
| ` + "`stage`" + ` | list of strings, connect \| rcpt | Where the handler acts. Without it, at all of them. |
`

func TestPrintMarkdown(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	markdownEntry(&b, entry(t))
	if diff := cmp.Diff(wantMarkdown, b.String()); diff != "" {
		t.Errorf("markdown (-want +got):\n%s", diff)
	}
}

func TestModule(t *testing.T) {
	t.Parallel()
	const path = "github.com/mox-like/mox-like/core/reference"
	nap := reflect.TypeFor[Nap]()
	tests := map[string]struct {
		comments Comments
		want     string
	}{
		"package of the module":  {Comments{path: "Package x is handler.nap: it sleeps.", path + ".Nap": "Nap is."}, "It sleeps."},
		"package of another":     {Comments{path: "Package x is handler.other: it works.", path + ".Nap": "Nap lies."}, "Lies."},
		"package of no module":   {Comments{path + ".Nap": "Nap lies."}, "Lies."},
		"package says no more":   {Comments{path: "Package x is handler.nap: "}, ""},
		"comment refers to Go":   {Comments{path + ".Nap": "Nap is small, see mail.Nap, and old (see nap.Bed)."}, "Small, and old."},
		"nobody says anything":   {nil, ""},
		"comment of the field X": {Comments{path + ".Nap.X": "X is."}, ""},
	}
	for name, test := range tests {
		if got := test.comments.Module(nap, "handler.nap"); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"":                             "",
		"One sentence.":                "One sentence.",
		"It takes v1.2\nof it. Second": "It takes v1.2 of it.",
	}
	for text, want := range tests {
		if got := (Entry{Text: text}).Summary(); got != want {
			t.Errorf("summary of %q: %q, want %q", text, got, want)
		}
	}
}
