package config

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Resolved is the value of an attribute as a file without variables has it.
type Resolved struct {
	// Text is an expression. Where env, file or a sensitive variable gave a part of
	// the value, stars stand in its place.
	Text string
	// Secret says that there are such parts.
	Secret bool
	// Uses are the variables, and what of the environment and which files the value
	// was made of, in the order of the expression.
	Uses []Use
	// Place is where the attribute stands.
	Place hcl.Range

	plain string // Text with what is secret
}

// Use is something outside of an expression that its value depends on.
type Use struct {
	// Kind is variable, environment or file.
	Kind UseKind
	// Name is the variable's, the environment variable's, or the file's.
	Name string
	// Source says where a variable's value comes from.
	Source VariableSource
	// By is the environment variable that gives a variable its value.
	By string
}

// UseKind is what is used.
type UseKind string

// The kinds of uses.
const (
	UseVariable    UseKind = "variable"
	UseEnvironment UseKind = "environment"
	UseFile        UseKind = "file"
)

// VariableSource says where the value of a variable comes from.
type VariableSource string

// The sources of variables, from the strongest to the weakest.
const (
	VariableGiven       VariableSource = "given" // by the command line
	VariableEnvironment VariableSource = "environment"
	VariableDefault     VariableSource = "default"
)

// Fingerprint tells values apart without showing them: an HMAC of the whole value,
// secrets too, keyed by salt.
func (r Resolved) Fingerprint(salt string) string {
	mac := hmac.New(sha256.New, []byte(salt))
	mac.Write([]byte(r.plain))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// Resolve gives the value of an attribute: evaluated, or, where a message is needed
// for that, as it is written with the values of its variables. It is not ok where
// the block does not have the attribute or has null there. sources are the File's,
// with the texts of overlays.
func (b *Block) Resolve(name string, sources map[string][]byte) (r Resolved, ok bool) {
	a, ok := b.Attribute(name)
	if !ok {
		return Resolved{}, false
	}
	env := b.environment()
	r = Resolved{Place: a.NameRange, Uses: env.uses(a.Expr)}
	value, ds := env.evaluate(a.Expr, nil)
	if ds.HasErrors() || !value.IsWhollyKnown() {
		r.Text, r.plain, r.Secret = env.substituted(a.Expr, sources)
		return r, true
	}
	open, _ := value.UnmarkDeep()
	if open.IsNull() {
		return Resolved{}, false
	}
	r.plain = valueText(open)
	r.Text = r.plain
	if value.ContainsMarked() {
		r.Text, r.Secret = valueText(starred(value)), true
	}
	return r, true
}

func valueText(value cty.Value) string { return string(hclwrite.TokensForValue(value).Bytes()) }

// starred puts stars into the place of the secret parts of a value.
func starred(value cty.Value) cty.Value {
	if value.IsMarked() {
		return cty.StringVal("****")
	}
	if !value.CanIterateElements() || value.LengthInt() == 0 {
		return value
	}
	t := value.Type()
	if t.IsObjectType() || t.IsMapType() {
		fields := make(map[string]cty.Value)
		for it := value.ElementIterator(); it.Next(); {
			key, element := it.Element()
			fields[key.AsString()] = starred(element)
		}
		return cty.ObjectVal(fields)
	}
	var list []cty.Value
	for it := value.ElementIterator(); it.Next(); {
		_, element := it.Element()
		list = append(list, starred(element))
	}
	return cty.TupleVal(list)
}

// piece is a part of an expression's text and what stands for it.
type piece struct {
	at          hcl.Range
	text, plain string
}

// substituted gives the text of an expression with values in the place of variables
// and of the calls of env and file.
func (e *environment) substituted(expr hcl.Expression, sources map[string][]byte) (text, plain string, secret bool) {
	var pieces []piece
	add := func(part hcl.Expression) {
		value, ds := e.evaluate(part, nil)
		open, _ := value.UnmarkDeep()
		if ds.HasErrors() || !open.IsWhollyKnown() {
			return
		}
		p := piece{at: part.Range(), text: valueText(open), plain: valueText(open)}
		if value.ContainsMarked() {
			p.text, secret = Hidden, true
		}
		pieces = append(pieces, p)
	}
	if node, ok := expr.(hclsyntax.Expression); ok {
		_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
			switch part := n.(type) {
			case *hclsyntax.ScopeTraversalExpr:
				if part.Traversal.RootName() == "var" {
					add(part)
				}
			case *hclsyntax.FunctionCallExpr:
				if part.Name == "env" || part.Name == "file" {
					add(part)
				}
			}
			return nil
		})
	}
	at := expr.Range()
	src := sources[at.Filename]
	if at.Start.Byte > at.End.Byte || at.End.Byte > len(src) {
		return Hidden, Hidden, true
	}
	slices.SortStableFunc(pieces, func(a, b piece) int { return a.at.Start.Byte - b.at.Start.Byte })
	var shown, whole bytes.Buffer
	last := at.Start.Byte
	for _, p := range pieces {
		if p.at.Filename != at.Filename || p.at.Start.Byte < last || p.at.End.Byte > at.End.Byte {
			continue // within another
		}
		for _, out := range []*bytes.Buffer{&shown, &whole} {
			out.Write(src[last:p.at.Start.Byte])
		}
		shown.WriteString(p.text)
		whole.WriteString(p.plain)
		last = p.at.End.Byte
	}
	shown.Write(src[last:at.End.Byte])
	whole.Write(src[last:at.End.Byte])
	return shown.String(), whole.String(), secret
}

// uses finds what an expression depends on.
func (e *environment) uses(expr hcl.Expression) []Use {
	node, ok := expr.(hclsyntax.Expression)
	if !ok {
		return nil
	}
	var list []Use
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		switch part := n.(type) {
		case *hclsyntax.ScopeTraversalExpr:
			if name, ok := stepName(part.Traversal, 1); ok && part.Traversal.RootName() == "var" {
				list = append(list, e.variableUse(name))
			}
		case *hclsyntax.FunctionCallExpr:
			kind, ok := map[string]UseKind{"env": UseEnvironment, "file": UseFile}[part.Name]
			if !ok || len(part.Args) == 0 {
				break
			}
			if value, ds := e.evaluate(part.Args[0], nil); !ds.HasErrors() && !value.ContainsMarked() && value.Type() == cty.String && value.IsKnown() && !value.IsNull() {
				list = append(list, Use{Kind: kind, Name: value.AsString()})
			}
		}
		return nil
	})
	return slices.Compact(list)
}

// variableUse says where the value of a variable comes from, as given finds it.
func (e *environment) variableUse(name string) Use {
	use := Use{Kind: UseVariable, Name: name, Source: VariableDefault}
	if _, ok := e.options.Variables[name]; ok {
		use.Source = VariableGiven
		return use
	}
	if _, ok := e.options.lookup(variablePrefix + name); ok {
		use.Source, use.By = VariableEnvironment, variablePrefix+name
		return use
	}
	for _, full := range e.options.environNames() {
		if strings.EqualFold(full, variablePrefix+name) {
			use.Source, use.By = VariableEnvironment, full
			return use
		}
	}
	return use
}

// VariableDefaults gives where the defaults of the variables stand, by name.
func (f *File) VariableDefaults() map[string]hcl.Range {
	out := make(map[string]hcl.Range)
	for name, src := range f.raw {
		if !bytes.Contains(src, []byte("variable")) {
			continue
		}
		parsed, _ := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
		for _, b := range parsed.Body.(*hclsyntax.Body).Blocks {
			if a, ok := b.Body.Attributes["default"]; ok && b.Type == "variable" && len(b.Labels) == 1 {
				out[b.Labels[0]] = a.NameRange
			}
		}
	}
	return out
}

// Names lists the files that were read, the main file first and the others in the
// order of their names, relative to the folder of the main file where they stand
// below it.
func (f *File) Names() []string {
	base := filepath.Dir(f.Name)
	var rest []string
	for name := range f.raw {
		if name == f.Name {
			continue
		}
		if relative, err := filepath.Rel(base, name); err == nil && filepath.IsLocal(relative) {
			name = relative
		}
		rest = append(rest, name)
	}
	slices.Sort(rest)
	return append([]string{filepath.Base(f.Name)}, rest...)
}
