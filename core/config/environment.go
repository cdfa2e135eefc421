package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// mark is what cty values carry through expressions.
type mark string

// sensitive marks what must not be printed: variables that say so, and all
// that comes from env and file, since secrets come from there.
const sensitive mark = "sensitive"

// environment is what the expressions of one configuration see. It is not
// changed once the variables are set, and then safe for concurrent use.
type environment struct {
	options   Options
	base      *hcl.EvalContext
	variables []string
	// partial says that variables may be missing because a file is.
	partial bool
}

func newEnvironment(o Options) *environment {
	return &environment{options: o, base: &hcl.EvalContext{Functions: functions(o)}}
}

// scope gives the context in which the expressions of one file are evaluated:
// file() is relative to that file.
func (e *environment) scope(filename string) *hcl.EvalContext {
	ctx := e.base.NewChild()
	ctx.Functions = map[string]function.Function{"file": fileFunction(e.options, filepath.Dir(filename))}
	return ctx
}

// evaluate gives the value of an expression that uses no tx. hints are words
// that were probably meant as strings. After a mistake the value is unknown.
func (e *environment) evaluate(expr hcl.Expression, hints []string) (cty.Value, Diagnostics) {
	ds := e.checkNames(expr, hints)
	if ds.HasErrors() {
		return cty.DynamicVal, ds
	}
	value, hds := expr.Value(e.scope(expr.Range().Filename))
	ds.Append(FromHCL("expr/invalid", hds))
	if hds.HasErrors() {
		return cty.DynamicVal, ds
	}
	return value, ds
}

// checkNames holds the names in an expression against those that there are.
func (e *environment) checkNames(expr hcl.Expression, hints []string) Diagnostics {
	var ds Diagnostics
	for _, t := range expr.Variables() {
		ds.Append(e.checkName(t, hints))
	}
	return ds
}

func (e *environment) checkName(t hcl.Traversal, hints []string) Diagnostics {
	var ds Diagnostics
	at := t.SourceRange()
	switch root := t.RootName(); {
	case root == "var" && e.base.Variables == nil:
		ds.Errorf(at, "expr/unknown-name", "variables are not known here").
			WithDetail("Defaults of variables and includes are evaluated before them; env() serves there.")
	case root == "var":
		ds.Append(e.checkVariable(t))
	case root == "tx":
		ds.Errorf(at, "expr/unknown-name", "tx is known in when only").
			WithDetail("This attribute is evaluated once, when the file is read, and not for each message.")
	case len(t) == 1 && slices.Contains(hints, root), len(t) == 1 && hints == nil:
		ds.Errorf(at, "expr/unknown-name", "%s is not a name that is known here", root).
			WithDetail("If it is a string, put it in quotes: %q.", root)
	default:
		d := ds.Errorf(at, "expr/unknown-name", "%s is not a name that is known here", root)
		d.Detail = didYouMean(root, []string{"var"}, fmt.Sprintf("Strings stand in quotes: %q. Variables are used as var.name.", dotted(t)))
		if near := Suggest(root, hints); near != "" {
			d.WithDetail("Did you mean %q? Strings stand in quotes.", near)
		}
	}
	return ds
}

// dotted gives a traversal as it is written, as far as it is names with dots.
func dotted(t hcl.Traversal) string {
	var text strings.Builder
	text.WriteString(t.RootName())
	for _, step := range t[1:] {
		attr, ok := step.(hcl.TraverseAttr)
		if !ok {
			break
		}
		text.WriteString("." + attr.Name)
	}
	return text.String()
}

func (e *environment) checkVariable(t hcl.Traversal) Diagnostics {
	var ds Diagnostics
	name, ok := stepName(t, 1)
	if !ok {
		ds.Errorf(t.SourceRange(), "expr/unknown-name", "var needs a name").WithDetail("Variables are used as var.name.")
		return ds
	}
	if !slices.Contains(e.variables, name) && !e.partial {
		ds.Errorf(t.SourceRange(), "expr/unknown-name", "there is no variable %q", name).
			Detail = didYouMean(name, e.variables, fmt.Sprintf("Declare it: variable %q {}.", name))
	}
	return ds
}

// stepName gives the name at one step of a traversal: .name or ["name"].
func stepName(t hcl.Traversal, i int) (string, bool) {
	if i >= len(t) {
		return "", false
	}
	switch step := t[i].(type) {
	case hcl.TraverseAttr:
		return step.Name, true
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String && step.Key.IsKnown() && !step.Key.IsNull() {
			return step.Key.AsString(), true
		}
	}
	return "", false
}
