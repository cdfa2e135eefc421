package control

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

func TestLiteral(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		`"10m"`:                              `"10m"`,
		`""`:                                 `""`,
		`"a \"b\" \\ \n"`:                    `"a \"b\" \\ \n"`,
		`"${env(\"HOME\")}"`:                 `"$${env(\"HOME\")}"`,
		`"%{ if true }"`:                     `"%%{ if true }"`,
		`true`:                               `true`,
		`10`:                                 `10`,
		`-0.5`:                               `-0.5`,
		`1e3`:                                `1000`,
		`["a",1,false]`:                      `["a", 1, false]`,
		`[]`:                                 `[]`,
		` "x" `:                              `"x"`,
		`1e400`:                              "error: no number",
		`1000000000000000000000000000000000`: "error: no number",
		`[null]`:                             "error: null",
		`{"a":null}`:                         "error: null",
		`nonsense`:                           "error: read value",
		strings.Repeat("[", 100) + strings.Repeat("]", 100): "error: deeper",
	}
	for text, want := range tests {
		got, err := literal(json.RawMessage(text))
		if rest, ok := strings.CutPrefix(want, "error: "); ok {
			if err == nil || !strings.Contains(err.Error(), rest) {
				t.Errorf("%s: error %v, want %q", text, err, rest)
			}
			continue
		}
		if err != nil || got == nil || *got != want {
			t.Errorf("%s: %v, error %v, want %s", text, got, err, want)
		}
	}
	if got, err := literal(json.RawMessage(`null`)); got != nil || err != nil {
		t.Errorf("null: %v, error %v, want nothing", got, err)
	}
}

// FuzzPatch: a JSON value becomes an expression that has this value and needs
// nothing to evaluate it, whatever is in it.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{
		`{"greylist":{"delay":"10m"}}`, `{"a":{"b":null}}`, `{"dnsbl":{"zones":["zen.dnsbl.example.net"],"weight":2.5}}`,
		`{"a":{"b":"${file(\"/etc/passwd\")}"}}`, `{"a":{"b":"%{for x in y}"}}`, `{"a":{"b":{"c d":[true,{}]}}}`, `{"a":{"b":"\u0000\ud800"}}`,
		`{"a":{"b":1e-80}}`, `{"a":{"b":-0}}`, `{"a":{"b":"<<EOT\n"}}`, `{"":{"":""}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var p patch
		if json.Unmarshal(body, &p) != nil {
			return
		}
		changes, err := p.changes()
		if err != nil {
			return
		}
		for _, c := range changes {
			raw := p[c.Handler][c.Attribute]
			if c.Value == nil {
				if strings.TrimSpace(string(raw)) != "null" {
					t.Fatalf("%s became nothing", raw)
				}
				continue
			}
			expr, ds := hclsyntax.ParseExpression([]byte(*c.Value), "value", hcl.InitialPos)
			if ds.HasErrors() {
				t.Fatalf("%s became %s: %v", raw, *c.Value, ds)
			}
			value, ds := expr.Value(nil)
			if ds.HasErrors() {
				t.Fatalf("%s became %s, which cannot be evaluated: %v", raw, *c.Value, ds)
			}
			again, err := ctyjson.Marshal(value, value.Type())
			if err != nil {
				t.Fatalf("%s became %s: %v", raw, *c.Value, err)
			}
			second, err := literal(again)
			if err != nil || second == nil || *second != *c.Value {
				t.Fatalf("%s became %s, and this %v (%v)", raw, *c.Value, second, err)
			}
		}
	})
}
