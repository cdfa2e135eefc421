package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/config"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	const src = `
variable "plain" { default = "a" }
variable "given" { default = "b" }
variable "env" { default = "c" }
variable "secret" {
  default   = "hush"
  sensitive = true
}
block {
  word     = "x"
  variable = var.plain
  joined   = [var.plain, var.given, "${var.env}!"]
  secret   = var.secret
  part     = ["open", var.secret]
  deep     = { a = [var.secret], b = 1 }
  env      = env("TOKEN")
  fallback = env("NONE", "open")
  when     = tx.size > 1 && tx.from == var.plain && tx.helo != env("TOKEN") && tx.user != var.secret
  null     = null
}
`
	f, ds := config.Parse("a.hcl", []byte(src), config.Options{
		Variables: map[string]string{"given": "B"},
		Environ: func(name string) (string, bool) {
			v, ok := map[string]string{"MOXLIKE_VAR_env": "C", "TOKEN": "hush"}[name]
			return v, ok
		},
		EnvironNames: func() []string { return []string{"MOXLIKE_VAR_env", "TOKEN"} },
	})
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	block := f.Root.Blocks("block")[0]
	plain := config.Use{Kind: config.UseVariable, Name: "plain", Source: config.VariableDefault}
	secret := config.Use{Kind: config.UseVariable, Name: "secret", Source: config.VariableDefault}
	token := config.Use{Kind: config.UseEnvironment, Name: "TOKEN"}
	for name, want := range map[string]struct {
		text   string
		secret bool
		uses   []config.Use
	}{
		"word":     {text: `"x"`},
		"variable": {text: `"a"`, uses: []config.Use{plain}},
		"joined": {text: `["a", "B", "C!"]`, uses: []config.Use{
			plain,
			{Kind: config.UseVariable, Name: "given", Source: config.VariableGiven},
			{Kind: config.UseVariable, Name: "env", Source: config.VariableEnvironment, By: "MOXLIKE_VAR_env"},
		}},
		"secret": {text: config.Hidden, secret: true, uses: []config.Use{secret}},
		"part":   {text: `["open", "****"]`, secret: true, uses: []config.Use{secret}},
		"deep":   {text: "{\n  a = [\"****\"]\n  b = 1\n}", secret: true, uses: []config.Use{secret}},
		"env":    {text: config.Hidden, secret: true, uses: []config.Use{token}},
		// A default stands in the file for all to read.
		"fallback": {text: `"open"`, uses: []config.Use{{Kind: config.UseEnvironment, Name: "NONE"}}},
		"when": {
			text:   `tx.size > 1 && tx.from == "a" && tx.helo != "****" && tx.user != "****"`,
			secret: true, uses: []config.Use{plain, token, secret},
		},
	} {
		got, ok := block.Resolve(name, f.Sources)
		if !ok || got.Text != want.text || got.Secret != want.secret {
			t.Errorf("%s: %q, secret %v, want %q, %v", name, got.Text, got.Secret, want.text, want.secret)
		}
		if diff := cmp.Diff(want.uses, got.Uses); diff != "" {
			t.Errorf("%s: uses (-want +got):\n%s", name, diff)
		}
		if strings.Contains(got.Text, "hush") {
			t.Errorf("%s shows a secret: %s", name, got.Text)
		}
	}
	for _, name := range []string{"null", "none"} {
		if _, ok := block.Resolve(name, f.Sources); ok {
			t.Errorf("%s has a value", name)
		}
	}
	one, _ := block.Resolve("env", f.Sources)
	same, _ := block.Resolve("secret", f.Sources)
	other, _ := block.Resolve("word", f.Sources)
	if one.Fingerprint("s") != same.Fingerprint("s") || one.Fingerprint("s") == one.Fingerprint("t") || one.Fingerprint("s") == other.Fingerprint("s") {
		t.Error("fingerprints do not tell values apart")
	}
	if place := f.VariableDefaults()["secret"]; place.Start.Line != 6 {
		t.Errorf("the default of secret stands at %v", place)
	}
}
