package config_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// all has a setting of each type.
type all struct {
	Text     string            `config:"text"`
	Truth    bool              `config:"truth"`
	Small    int8              `config:"small"`
	Count    uint16            `config:"count"`
	Factor   float64           `config:"factor"`
	Time     time.Duration     `config:"time"`
	Size     config.Size       `config:"size"`
	Rate     config.Rate       `config:"rate"`
	IP       netip.Addr        `config:"ip"`
	Endpoint netip.AddrPort    `config:"endpoint"`
	Network  netip.Prefix      `config:"network"`
	Address  mailAddr          `config:"mail_address"`
	Texts    []string          `config:"texts"`
	Networks []netip.Prefix    `config:"networks"`
	Lists    map[string][]int  `config:"lists"`
	Names    map[string]string `config:"names"`
	Maybe    *int              `config:"maybe"`
	MaybeOne *time.Duration    `config:"maybe_time"`
	Choice   string            `config:"choice" values:"red,green"`
	Choices  []string          `config:"choices" values:"red,green"`
	Bounded  int               `config:"bounded" min:"1" max:"10"`
	Patience []time.Duration   `config:"patience" min:"1s" max:"1h"`
	Expr     config.Expr       `config:"expr"`
}

// TestDecodeValue decodes one attribute of each type.
func TestDecodeValue(t *testing.T) {
	t.Parallel()
	seven, minute := 7, time.Minute
	tests := []struct {
		src  string
		want all
	}{
		{`text = "a"`, all{Text: "a"}},
		{`text = "${1}a"`, all{Text: "1a"}},
		{"text = <<-EOT\n  a\n  b\nEOT\n", all{Text: "a\nb\n"}},
		{`text = null`, all{}},
		{`truth = true`, all{Truth: true}},
		{`truth = "true"`, all{Truth: true}},
		{`small = -128`, all{Small: -128}},
		{`small = "12"`, all{Small: 12}},
		{`count = 65535`, all{Count: 65535}},
		{`factor = 2.5`, all{Factor: 2.5}},
		{`time = "1h30m"`, all{Time: 90 * time.Minute}},
		{`size = "25MB"`, all{Size: 25_000_000}},
		{`rate = "5/h"`, all{Rate: config.Rate{N: 5, Window: time.Hour}}},
		{`ip = "2001:db8::1"`, all{IP: netip.MustParseAddr("2001:db8::1")}},
		{`endpoint = "192.0.2.1:25"`, all{Endpoint: netip.MustParseAddrPort("192.0.2.1:25")}},
		{`network = "192.0.2.0/24"`, all{Network: netip.MustParsePrefix("192.0.2.0/24")}},
		{`network = "192.0.2.1"`, all{Network: netip.MustParsePrefix("192.0.2.1/32")}},
		{`network = "2001:db8::1"`, all{Network: netip.MustParsePrefix("2001:db8::1/128")}},
		{`network = "::ffff:192.0.2.1"`, all{Network: netip.MustParsePrefix("192.0.2.1/32")}},
		{`network = "::ffff:192.0.2.0/120"`, all{Network: netip.MustParsePrefix("192.0.2.0/24")}},
		{`network = "::/0"`, all{Network: netip.MustParsePrefix("::/0")}},
		{`texts = ["a", "b"]`, all{Texts: []string{"a", "b"}}},
		{`texts = "a"`, all{Texts: []string{"a"}}},
		{`texts = []`, all{Texts: []string{}}},
		{`networks = ["192.0.2.0/24"]`, all{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		{`networks = "192.0.2.1"`, all{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}},
		{`lists = { a = [1, 2], b = 3 }`, all{Lists: map[string][]int{"a": {1, 2}, "b": {3}}}},
		{`names = { "x y" = "z" }`, all{Names: map[string]string{"x y": "z"}}},
		{`maybe = 7`, all{Maybe: &seven}},
		{`maybe_time = "1m"`, all{MaybeOne: &minute}},
		{`choice = "green"`, all{Choice: "green"}},
		{`choices = ["green", "red"]`, all{Choices: []string{"green", "red"}}},
		{`bounded = 10`, all{Bounded: 10}},
		{`patience = ["1s", "1h"]`, all{Patience: []time.Duration{time.Second, time.Hour}}},
	}
	for _, test := range tests {
		t.Run(test.src, func(t *testing.T) {
			t.Parallel()
			var got all
			if ds := config.Decode(parse(t, test.src).Root, &got); len(ds) > 0 {
				t.Fatalf("diagnostics:\n%s", list(ds))
			}
			if diff := cmp.Diff(test.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
				cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
				cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
				cmp.Comparer(func(a, b config.Expr) bool { return a.IsSet() == b.IsSet() })); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDecodeMistake holds the exact diagnostic of each mistake in a value.
func TestDecodeMistake(t *testing.T) {
	t.Parallel()
	tests := []struct{ src, want string }{
		{`text = 1`, `1:8-1:9 error config/wrong-type: attribute "text" must be a string | Here stands a number. Write it as text = "text".`},
		{`text = ["a"]`, `1:8-1:13 error config/wrong-type: attribute "text" must be a string | Here stands a list. Write it as text = "text".`},
		{`truth = "yes"`, `1:9-1:14 error config/wrong-type: attribute "truth" must be a bool | Here stands a string. Write it as truth = true.`},
		{`small = 128`, `1:9-1:12 error config/bad-value: attribute "small": the number is out of range`},
		{`small = 0.5`, `1:9-1:12 error config/bad-value: attribute "small": a whole number is needed`},
		{`small = "x"`, `1:9-1:12 error config/wrong-type: attribute "small" must be a whole number | Here stands a string. Write it as small = 10.`},
		{`count = -1`, `1:9-1:11 error config/bad-value: attribute "count": the number is out of range`},
		{`factor = 1e400`, `1:10-1:15 error config/bad-value: attribute "factor": the number is too large`},
		{`factor = {}`, `1:10-1:12 error config/wrong-type: attribute "factor" must be a number | Here stands a map. Write it as factor = 2.5.`},
		{`time = 30`, `1:8-1:10 error config/wrong-type: attribute "time" must be a duration | Here stands a number. Write it as time = "30s".`},
		{`time = 1.5`, `1:8-1:11 error config/wrong-type: attribute "time" must be a duration | Here stands a number. Write it as time = "15m".`},
		{`size = 25`, `1:8-1:10 error config/wrong-type: attribute "size" must be a size | Here stands a number. Write it as size = "25MB".`},
		{`size = 1048576`, `1:8-1:15 error config/wrong-type: attribute "size" must be a size | Here stands a number. Write it as size = "1MiB".`},
		{`rate = 5`, `1:8-1:9 error config/wrong-type: attribute "rate" must be a rate | Here stands a number. Write it as rate = "5/1h".`},
		{`time = "30"`, `1:8-1:12 error config/bad-value: attribute "time": "30" is not a duration | A duration needs a unit, such as "15m".`},
		{`time = "1y"`, `1:8-1:12 error config/bad-value: attribute "time": "1y" is not a duration | The units of a duration are w, d, h, m, s and ms, each after a whole number.`},
		{`size = "1XB"`, `1:8-1:13 error config/bad-value: attribute "size": "1XB" is not a size | The units of a size are B, KB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (powers of 1024).`},
		{`rate = "5"`, `1:8-1:11 error config/bad-value: attribute "rate": "5" is not a rate | A rate is a number and a time, such as "100/1h".`},
		{`ip = "localhost"`, `1:6-1:17 error config/bad-value: attribute "ip": "localhost" is not an IP address | Write it as ip = "192.0.2.1".`},
		{`endpoint = "192.0.2.1"`, `1:12-1:23 error config/bad-value: attribute "endpoint": "192.0.2.1" is not an IP address with port | Write it as endpoint = "192.0.2.1:25".`},
		{`network = "192.0.2.0/33"`, `1:11-1:25 error config/bad-value: attribute "network": "192.0.2.0/33" is not a network | Write it as network = "192.0.2.0/24". An address alone, such as "192.0.2.1", is a network too.`},
		{`network = ""`, `1:11-1:13 error config/bad-value: attribute "network": "" is not a network | Write it as network = "192.0.2.0/24". An address alone, such as "192.0.2.1", is a network too.`},
		{`network = "fe80::1%eth0"`, `1:11-1:25 error config/bad-value: attribute "network": "fe80::1%eth0" is not a network | Write it as network = "192.0.2.0/24". An address alone, such as "192.0.2.1", is a network too.`},
		{`network = "192.0.2.5/24"`, `1:11-1:25 error config/bad-value: attribute "network": "192.0.2.5/24" is an address within a network | Did you mean the network, "192.0.2.0/24", or that address alone, "192.0.2.5"?`},
		{`networks = ["2001:db8::/32", "2001:db8::5/64"]`, `1:30-1:46 error config/bad-value: attribute "networks[1]": "2001:db8::5/64" is an address within a network | Did you mean the network, "2001:db8::/64", or that address alone, "2001:db8::5"?`},
		{`network = true`, `1:11-1:15 error config/wrong-type: attribute "network" must be a network | Here stands a bool. Write it as network = "192.0.2.0/24".`},
		{`mail_address = "@"`, `1:16-1:19 error config/bad-value: attribute "mail_address": not an address of the form local-part@domain`},
		{`texts = ["a", 1, "c"]`, `1:15-1:16 error config/wrong-type: attribute "texts[1]" must be a string | Here stands a number. Write it as texts = ["text"].`},
		{`texts = { a = 1 }`, `1:9-1:18 error config/wrong-type: attribute "texts" must be a list of strings | Here stands a map. Write it as texts = ["text"].`},
		{`texts = [null]`, `1:9-1:15 error config/wrong-type: attribute "texts" must be a list of strings | Here stands a list. Write it as texts = ["text"].`},
		{`networks = "x"`, `1:12-1:15 error config/bad-value: attribute "networks": "x" is not a network | Write it as networks = ["192.0.2.0/24"]. An address alone, such as "192.0.2.1", is a network too.`},
		{`networks = split(",", "192.0.2.0/24,x")`, `1:12-1:40 error config/bad-value: attribute "networks[1]": "x" is not a network | Write it as networks = ["192.0.2.0/24"]. An address alone, such as "192.0.2.1", is a network too.`},
		{`lists = { a = [1], b = [2, 2.5] }`, `1:28-1:31 error config/bad-value: attribute "lists.b[1]": a whole number is needed`},
		{`lists = [1]`, `1:9-1:12 error config/wrong-type: attribute "lists" must be a map of lists of whole numbers | Here stands a list. Write it as lists = { "name" = [10] }.`},
		{`names = { a = 1 }`, `1:15-1:16 error config/wrong-type: attribute "names.a" must be a string | Here stands a number. Write it as names = { "name" = "text" }.`},
		{`maybe = "x"`, `1:9-1:12 error config/wrong-type: attribute "maybe" must be a whole number | Here stands a string. Write it as maybe = 10.`},
		{`choice = "gren"`, `1:10-1:16 error config/bad-value: attribute "choice": "gren" is not one of its values | Did you mean "green"? Its values are "red" and "green".`},
		{`choice = red`, `1:10-1:13 error expr/unknown-name: red is not a name that is known here | If it is a string, put it in quotes: "red".`},
		{`choice = gren`, `1:10-1:14 error expr/unknown-name: gren is not a name that is known here | Did you mean "green"? Strings stand in quotes.`},
		{`choices = ["red", "blue"]`, `1:19-1:25 error config/bad-value: attribute "choices[1]": "blue" is not one of its values | Its values are "red" and "green".`},
		{`bounded = 0`, `1:11-1:12 error config/bad-value: attribute "bounded" is out of range | It is at least 1.`},
		{`bounded = 11`, `1:11-1:13 error config/bad-value: attribute "bounded" is out of range | It is at most 10.`},
		{`patience = ["1s", "2h"]`, `1:19-1:23 error config/bad-value: attribute "patience[1]" is out of range | It is at most 1h.`},
		{`truth = env("PASSWORD")`, `1:9-1:24 error config/wrong-type: attribute "truth" must be a bool | Here stands a string. Write it as truth = true.`},
		{`size = env("PASSWORD")`, `1:8-1:23 error config/bad-value: attribute "size": the value is not a size | A size is a number and a unit, such as "25MB".`},
		{`mail_address = env("PASSWORD")`, `1:16-1:31 error config/bad-value: attribute "mail_address": the value is not valid | It comes from a secret and is not shown.`},
		{`network = env("NETWORK")`, `1:11-1:25 error config/bad-value: attribute "network": the value is not a network | The address has bits beyond the prefix length. It comes from a secret and is not shown.`},
		{`choice = env("PASSWORD")`, `1:10-1:25 error config/bad-value: attribute "choice": the value is not one of its values | Its values are "red" and "green".`},
		{`text = jsondecode("[1, }")`, `1:20-1:25 error expr/function: argument "text": not JSON from byte 4 on`},
		{`txet = "a"`, `1:1-1:5 error config/unknown-attribute: the file has no attribute "txet" | Did you mean "text"?`},
		{`text {}`, `1:1-1:5 error config/unknown-block: "text" is an attribute, not a block | Write text = "text".`},
	}
	for _, test := range tests {
		t.Run(test.src, func(t *testing.T) {
			t.Parallel()
			var into all
			got := list(config.Decode(parse(t, test.src).Root, &into))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s", diff)
			}
		})
	}
}

type inner struct {
	Key   string `config:"key,label"`
	Value int    `config:"value,required"`
	Extra int    `config:"extra" default:"3"`
}

type shared struct {
	Zone string `config:"zone" default:"local"`
}

type outer struct {
	shared
	Single  inner           `config:"single,block"`
	Pointer *inner          `config:"pointer,block"`
	Many    []inner         `config:"many,block"`
	Each    []*inner        `config:"each,block"`
	Body    *config.Block   `config:"body,body"`
	Bodies  []*config.Block `config:"bodies,body"`
}

type rest struct {
	Zone   string          `config:"zone"`
	Blocks []*config.Block `config:",remain"`
}

func TestDecodeBlocks(t *testing.T) {
	t.Parallel()
	f := parse(t, `
zone = "z"
pointer "p" {
  value = 1
}
many "a" {
  value = 1
  extra = 2
}
body {
  anything = 1
}
each "x" { value = 5 }
many "b" { value = 2 }
other "thing" {}
bodies {}
bodies {}
`)
	var o outer
	var r rest
	if ds := config.Decode(f.Root, &o, &r); len(ds) > 0 {
		t.Fatalf("diagnostics:\n%s", list(ds))
	}
	if o.Body == nil || o.Body.Body.Attributes["anything"] == nil || len(o.Bodies) != 2 {
		t.Errorf("bodies: %v, %v", o.Body, o.Bodies)
	}
	if len(r.Blocks) != 1 || r.Blocks[0].Header() != `other "thing"` || r.Zone != "z" {
		t.Errorf("rest: %+v", r)
	}
	o.Body, o.Bodies = nil, nil
	want := outer{
		shared:  shared{Zone: "z"},
		Single:  inner{Extra: 3},
		Pointer: &inner{Key: "p", Value: 1, Extra: 3},
		Many:    []inner{{"a", 1, 2}, {"b", 2, 3}},
		Each:    []*inner{{"x", 5, 3}},
	}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("decoded %+v, want %+v", o, want)
	}
}

func TestDecodeBlockMistakes(t *testing.T) {
	t.Parallel()
	f := parse(t, `zone { }
single "a" {}
single "b" {}
pointer = 1
many {
  value = 1
}
each "x" "y" {
  velue = 2
  value = "x"
}
boddy {}
`)
	var o outer
	want := strings.Join([]string{
		`3:1-3:11 error config/duplicate-block: the block "single" stands twice | There can be one. Remove one of them, or move the settings of one into the other. | 2:1 the first one stands here`,
		`2:1-2:11 error config/missing-attribute: single "a" needs the attribute "value" | Write value = 10.`,
		`5:1-5:5 error config/missing-label: many needs a label, its key | Write many "KEY" { … }.`,
		`10:11-10:14 error config/wrong-type: attribute "value" must be a whole number | Here stands a string. Write it as value = 10.`,
		`9:3-9:8 error config/unknown-attribute: each "x" "y" has no attribute "velue" | Did you mean "value"?`,
		`8:10-8:13 error config/unknown-label: each "x" "y": the label "y" is one too many | Remove it: the labels of each are "key".`,
		`4:1-4:8 error config/unknown-attribute: "pointer" is a block, not an attribute | Write pointer { … } without the equals sign.`,
		`1:1-1:5 error config/unknown-block: "zone" is an attribute, not a block | Write zone = "text".`,
		`12:1-12:6 error config/unknown-block: the file has no block "boddy" | Did you mean "body"?`,
	}, "\n")
	got := list(config.Decode(f.Root, &o))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
}

// described has settings whose types say too little about them.
type described struct {
	Host  string         `config:"host,required" example:"mx.example.org"`
	Ports []int          `config:"ports,required" example:"25,587"`
	Names []string       `config:"names,required" example:"a,b"`
	Admin mail.Address   `config:"admin,required"`
	Kind  string         `config:"kind,label" values:"sqlite"`
	Outer *struct{ all } `config:"outer,block"`
}

// Hint knows of one word.
func (*described) Hint(name string) string {
	if name == "warm" {
		return "It is hot here."
	}
	return ""
}

// TestDecodeHints holds what is said of what is missing, misplaced or known to the
// struct.
func TestDecodeHints(t *testing.T) {
	t.Parallel()
	f := parse(t, "d \"postgres\" {\n  bounded = 1\n  warm = 1\n  warm {}\n}\n")
	want := strings.Join([]string{
		`1:3-1:13 error config/bad-value: d "postgres": "postgres" is not a kind | Its only kind is "sqlite".`,
		`2:3-2:10 error config/unknown-attribute: d "postgres" has no attribute "bounded" | It belongs into outer { … }.`,
		`3:3-3:7 error config/unknown-attribute: d "postgres" has no attribute "warm" | It is hot here.`,
		`1:1-1:13 error config/missing-attribute: d "postgres" needs the attribute "host" | Write host = "mx.example.org".`,
		`1:1-1:13 error config/missing-attribute: d "postgres" needs the attribute "ports" | Write ports = [25, 587].`,
		`1:1-1:13 error config/missing-attribute: d "postgres" needs the attribute "names" | Write names = ["a", "b"].`,
		`1:1-1:13 error config/missing-attribute: d "postgres" needs the attribute "admin" | Write admin = "alice@example.org".`,
		`4:3-4:7 error config/unknown-block: d "postgres" has no block "warm" | It is hot here.`,
	}, "\n")
	if diff := cmp.Diff(want, list(config.Decode(f.Root.Blocks()[0], new(described)))); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
}

// TestDecodeTwoStructs holds that each struct takes its own, labels too, and
// that a mistake in what both have is told once.
func TestDecodeTwoStructs(t *testing.T) {
	t.Parallel()
	f := parse(t, "handler \"kind\" \"name\" {\n  zone = 1\n  size = \"1KB\"\n}\n")
	var first struct {
		Kind string `config:"kind,label"`
		Zone string `config:"zone"`
	}
	var second struct {
		Kind string      `config:"kind,label"`
		Name string      `config:"name,label,optional"`
		Zone string      `config:"zone"`
		Size config.Size `config:"size"`
	}
	got := list(config.Decode(f.Root.Blocks()[0], &first, &second))
	want := `2:10-2:11 error config/wrong-type: attribute "zone" must be a string | Here stands a number. Write it as zone = "text".`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
	if first.Kind != "kind" || second.Kind != "kind" || second.Name != "name" || second.Size != 1000 {
		t.Errorf("decoded %+v and %+v", first, second)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	base := parse(t, "many \"a\" { value = 1 }\nmany \"b\" { value = 2 }\npointer \"p\" { value = 1 }\nzone = \"a\"\n").Root
	over := parse(t, "many \"c\" { value = 3 }\nzone = \"b\"\n").Root
	var got, untouched outer
	if ds := config.Decode(base.Merge(over), &got); len(ds) > 0 {
		t.Fatalf("diagnostics:\n%s", list(ds))
	}
	if ds := config.Decode(base, &untouched); len(ds) > 0 {
		t.Fatalf("diagnostics:\n%s", list(ds))
	}
	if got.Zone != "b" || len(got.Many) != 1 || got.Many[0].Key != "c" || got.Pointer == nil {
		t.Errorf("merged: %+v", got)
	}
	if untouched.Zone != "a" || len(untouched.Many) != 2 {
		t.Errorf("the base has changed: %+v", untouched)
	}
}

// TestWrongTags holds that mistakes of the program panic.
func TestWrongTags(t *testing.T) {
	t.Parallel()
	tests := map[string]any{
		"twice": &struct {
			A string `config:"a"`
			B string `config:"a"`
		}{},
		"unknown word": &struct {
			A string `config:"a,requierd"`
		}{},
		"no name": &struct {
			A string `config:",required"`
		}{},
		"type": &struct {
			A chan int `config:"a"`
		}{},
		"default": &struct {
			A int `config:"a" default:"x"`
		}{},
		"default not of the values": &struct {
			A string `config:"a" default:"x" values:"y,z"`
		}{},
		"default out of range": &struct {
			A time.Duration `config:"a" default:"1m" max:"1s"`
		}{},
		"default of required": &struct {
			A string `config:"a,required" default:"x"`
		}{},
		"min of a string": &struct {
			A string `config:"a" min:"1"`
		}{},
		"values of a number": &struct {
			A int `config:"a" values:"1,2"`
		}{},
		"optional attribute": &struct {
			A string `config:"a,optional"`
		}{},
		"block of a string": &struct {
			A string `config:"a,block"`
		}{},
		"remain": &struct {
			A []string `config:",remain"`
		}{},
		"label": &struct {
			A int `config:"a,label"`
		}{},
		"example not of the values": &struct {
			A string `config:"a" example:"x" values:"y,z"`
		}{},
		"tag without config": &struct {
			A string `default:"x"`
		}{},
		"not a pointer": struct{}{},
	}
	root := parse(t, "").Root
	for name, into := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			config.Decode(root, into)
		})
	}
}

// TestRecursiveBlock holds that a block may hold blocks of its own type.
func TestRecursiveBlock(t *testing.T) {
	t.Parallel()
	var n tree
	f := parse(t, "name = \"a\"\nnode {\n  name = \"b\"\n  node {\n    name = \"c\"\n  }\n}\n")
	if ds := config.Decode(f.Root, &n); len(ds) > 0 {
		t.Fatalf("diagnostics:\n%s", list(ds))
	}
	if n.Nodes[0].Nodes[0].Name != "c" {
		t.Errorf("decoded %+v", n)
	}
}

// tree is a block of its own type.
type tree struct {
	Name  string `config:"name"`
	Nodes []tree `config:"node,block"`
}
