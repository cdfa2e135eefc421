package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// variablePrefix is in front of a variable's name in the environment. Names are
// commonly in capitals there, so case does not matter unless two differ in it.
const variablePrefix = "MOXLIKE_VAR_"

// Variable is a variable block: a value that is given from outside and used as
// var.name.
type Variable struct {
	// Name is what stands after var.
	Name string `config:"name,label"`
	// Default is the value where neither the command line nor the environment
	// gives one. Without it the variable must be given.
	Default Expr `config:"default"`
	// Description says what the variable is for.
	Description string `config:"description"`
	// Sensitive keeps the value out of everything that is printed.
	Sensitive bool `config:"sensitive"`
	// Type is string, number, bool, or list, set, map or object of these. It
	// is the default's where it is not given, else string.
	Type Expr `config:"type"`
}

// setVariables evaluates the variable blocks of a configuration and makes var
// known to its expressions.
func (e *environment) setVariables(blocks []*Block, f *File) Diagnostics {
	var ds Diagnostics
	values := make(map[string]cty.Value, len(blocks))
	places := make(map[string]*Block, len(blocks))
	for _, b := range blocks {
		var v Variable
		more := Decode(b, &v)
		if more.HasErrors() {
			v.Sensitive = true
		}
		if v.Sensitive && v.Default.IsSet() {
			hide(f.Sources, v.Default.Range())
		}
		ds.Append(more)
		if v.Name == "" {
			continue
		}
		if first, ok := places[v.Name]; ok {
			ds.Errorf(b.LabelRange(0), "config/duplicate-variable", "variable %q is declared twice", v.Name).
				WithDetail("Remove one of them.").WithRelated(first.DefRange, "the first one stands here")
			continue
		}
		places[v.Name] = b
		value, more := e.variable(b, &v)
		ds.Append(more)
		if v.Sensitive {
			value = value.Mark(sensitive)
		}
		values[v.Name] = value
	}
	names := slices.Sorted(maps.Keys(values))
	for _, name := range slices.Sorted(maps.Keys(e.options.Variables)) {
		if _, ok := values[name]; !ok && !f.Partial {
			ds.Errorf(hcl.Range{}, "config/unknown-variable", "a value is given for the variable %q, which no file declares", name).
				Detail = didYouMean(name, names, "Declare it by a variable block, or give no value.")
		}
	}
	if !f.Partial {
		ds.Append(e.checkEnvironment(names))
	}
	e.variables = names
	e.partial = f.Partial
	e.base.Variables = map[string]cty.Value{"var": cty.ObjectVal(values)}
	if f.Partial {
		// Which variables there are and which are secret is not sure.
		e.base.Variables["var"] = cty.DynamicVal
	}
	return ds
}

// checkEnvironment finds values in the environment for variables that there are
// not.
func (e *environment) checkEnvironment(variables []string) Diagnostics {
	var ds Diagnostics
	for _, full := range e.options.environNames() {
		name, ok := strings.CutPrefix(full, variablePrefix)
		if !ok || slices.ContainsFunc(variables, func(v string) bool { return strings.EqualFold(v, name) }) {
			continue
		}
		ds.Warnf(hcl.Range{}, "config/unknown-variable", "the environment has %s, but no file declares the variable %q", full, name).
			Detail = didYouMean(name, variables, "Declare it by a variable block, or take it out of the environment.")
	}
	return ds
}

// variable gives the value of one variable; it is unknown after a mistake, so
// that what uses it is not a mistake too.
func (e *environment) variable(b *Block, v *Variable) (cty.Value, Diagnostics) {
	var ds Diagnostics
	want := cty.DynamicPseudoType
	if v.Type.IsSet() {
		t, hds := typeexpr.TypeConstraint(typeExpression(v.Type))
		if hds.HasErrors() {
			ds.Errorf(v.Type.Range(), "config/bad-value", "this is not a type").
				WithDetail("Types are string, number, bool, list(string), map(string) and the like.")
			return cty.DynamicVal, ds
		}
		want = t
	}
	fallback := cty.NilVal
	if v.Default.IsSet() {
		value, more := e.evaluate(v.Default, nil)
		if ds.Append(more); more.HasErrors() {
			return cty.DynamicVal, ds
		}
		fallback = value
	}
	if text, ok := e.given(v.Name); ok {
		if want == cty.DynamicPseudoType && fallback != cty.NilVal {
			want = fallback.Type()
		}
		value, err := parseGiven(text, want)
		if err != nil {
			ds.Errorf(b.LabelRange(0), "config/bad-value", "the value given for the variable %q is not a %s", v.Name, want.FriendlyName()).
				WithDetail("The command line or the environment (%s%s) gives it. Lists and maps are written as in the file.", variablePrefix, v.Name)
			return cty.DynamicVal, ds
		}
		return value, ds
	}
	if fallback == cty.NilVal && e.options.Offline {
		return cty.DynamicVal, ds
	}
	if fallback == cty.NilVal {
		ds.Errorf(b.DefRange, "config/unset-variable", "variable %q has no value", v.Name).
			WithDetail("Give it by --var %s=… or %s%s in the environment, or write a default.", v.Name, variablePrefix, v.Name)
		return cty.DynamicVal, ds
	}
	value, err := convert.Convert(fallback, want)
	if err != nil {
		ds.Errorf(v.Default.Range(), "config/wrong-type", "the default of the variable %q is not a %s", v.Name, want.FriendlyName()).
			WithDetail("Write a default of that type, or correct the type.").
			WithRelated(v.Type.Range(), "the type stands here")
		return cty.DynamicVal, ds
	}
	return value, ds
}

// given looks for a value from outside.
func (e *environment) given(name string) (string, bool) {
	if text, ok := e.options.Variables[name]; ok {
		return text, true
	}
	if text, ok := e.options.lookup(variablePrefix + name); ok {
		return text, true
	}
	for _, full := range e.options.environNames() {
		if strings.EqualFold(full, variablePrefix+name) {
			return e.options.lookup(full)
		}
	}
	return "", false
}

// parseGiven reads a value from outside: text as it stands for strings, an
// expression for lists and maps.
func parseGiven(text string, want cty.Type) (cty.Value, error) {
	if want == cty.DynamicPseudoType || want == cty.String {
		return cty.StringVal(text), nil
	}
	if want.IsPrimitiveType() {
		return convert.Convert(cty.StringVal(text), want)
	}
	if ds := checkNesting("", []byte(text)); ds != nil {
		return cty.NilVal, ds.Err()
	}
	expr, hds := hclsyntax.ParseExpression([]byte(text), "", hcl.InitialPos)
	if hds.HasErrors() {
		return cty.NilVal, fmt.Errorf("parse value: %w", hds)
	}
	value, hds := expr.Value(nil)
	if hds.HasErrors() {
		return cty.NilVal, fmt.Errorf("evaluate value: %w", hds)
	}
	if want.IsTupleType() && value.Type().IsTupleType() || want.IsObjectType() && value.Type().IsObjectType() {
		return value, nil
	}
	return convert.Convert(value, want)
}

// typeExpression takes a type in quotes as the type itself.
func typeExpression(e Expr) hcl.Expression {
	value, hds := e.Value(nil)
	if hds.HasErrors() || value.Type() != cty.String || !value.IsKnown() || value.IsNull() {
		return e.Expression
	}
	text := value.AsString()
	inner, hds := hclsyntax.ParseExpression([]byte(text), e.Range().Filename, e.Range().Start)
	if hds.HasErrors() {
		return e.Expression
	}
	return inner
}

// hide makes stars of a place in the sources.
func hide(sources map[string][]byte, at hcl.Range) {
	src := sources[at.Filename]
	if at.Start.Byte <= at.End.Byte && at.End.Byte <= len(src) {
		mask(src[at.Start.Byte:at.End.Byte])
	}
}
