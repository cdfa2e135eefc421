package effective

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/tuning"
)

// same tells whether two values mean the same; nil stands for none.
func (v *Value) same(other *Value) bool {
	if v == nil || other == nil {
		return v == other
	}
	if v.Secret && other.Secret && v.Place == other.Place && v.Source == other.Source && ofDatabase(v.Source) {
		return true // one row, whose value nobody gets to see
	}
	if v.Secret || other.Secret {
		return v.Text == other.Text && v.Fingerprint == other.Fingerprint
	}
	return v.Text == other.Text || v.meaning() == other.meaning()
}

func ofDatabase(s tuning.Source) bool {
	return s == tuning.FromDatabase || s == tuning.FromDatabaseTemplate
}

// meaning gives a text that is the same for values that mean the same: one value
// stands for a list of one, and times and sizes can be written in several ways.
func (v *Value) meaning() string {
	value, ok := parsed(v.Text)
	if !ok {
		return strings.Join(strings.Fields(v.Text), " ")
	}
	if value.Type().IsTupleType() && value.LengthInt() == 1 {
		value = value.Index(cty.NumberIntVal(0))
	}
	if value.Type() != cty.String || v.Free {
		return shortText(value)
	}
	if d, err := config.ParseDuration(value.AsString()); err == nil {
		return "duration " + d.String()
	}
	if s, err := config.ParseSize(value.AsString()); err == nil {
		return "size " + strconv.FormatInt(int64(s), 10)
	}
	if r, err := config.ParseRate(value.AsString()); err == nil {
		return "rate " + r.String()
	}
	return shortText(value)
}

// parsed gives the value of an expression without names.
func parsed(text string) (cty.Value, bool) {
	expr, hds := hclsyntax.ParseExpression([]byte(text), "", hcl.InitialPos)
	if hds.HasErrors() {
		return cty.NilVal, false
	}
	value, hds := expr.Value(nil)
	return value, !hds.HasErrors() && value.IsWhollyKnown() && !value.IsNull()
}

// maxText bounds a value in a sentence, in characters.
const maxText = 120

// shortText writes a value in one line.
func shortText(value cty.Value) string { return oneLine(literal(value)) }

// Words tells a change in one line, without whose it is.
func (c Change) Words() string {
	switch c.Kind {
	case KindValue:
		return c.subject() + ": " + c.values()
	case KindListener:
		return fmt.Sprintf("%s (%s)", c.What, c.Block)
	case KindDomain, KindChain:
		return map[string]string{KindDomain: "", KindChain: "chain of its own for this listener "}[c.Kind] + c.What
	case KindOrder:
		if c.What == Moved {
			return fmt.Sprintf("handler %s moved %s", c.Block, c.Where)
		}
		return fmt.Sprintf("handler %s acts %s", c.Block, c.Where)
	case KindHandler:
		return strings.TrimSpace(fmt.Sprintf("handler %s %s %s", c.Block, c.What, c.Where))
	default:
		return c.Block + " " + c.What
	}
}

// subject names an attribute.
func (c Change) subject() string {
	if c.Block == "" {
		return c.Attribute
	}
	if strings.ContainsAny(c.Block, " \"") {
		return c.Block + " " + c.Attribute
	}
	return c.Block + "." + c.Attribute
}

// values tells the old and the new value, of long lists what comes and goes.
func (c Change) values() string {
	if c.Before == c.After {
		return "another secret"
	}
	before, ok := parsed(c.Before)
	after, also := parsed(c.After)
	if ok && also && before.Type().IsTupleType() && after.Type().IsTupleType() {
		if words := listWords(before, after); words != "" {
			return words
		}
	}
	return orUnset(c.Before) + " → " + orUnset(c.After)
}

// listWords says what comes and goes, "" where the order alone is another.
func listWords(before, after cty.Value) string {
	list := func(v cty.Value) (out []string) {
		for it := v.ElementIterator(); it.Next(); {
			_, element := it.Element()
			out = append(out, shortText(element))
		}
		return out
	}
	a, b := list(before), list(after)
	less := func(from, what []string) []string {
		return slices.DeleteFunc(slices.Clone(from), func(s string) bool { return slices.Contains(what, s) })
	}
	var parts []string
	if gone := less(a, b); len(gone) > 0 {
		parts = append(parts, "without "+clip(strings.Join(gone, ", ")))
	}
	if come := less(b, a); len(come) > 0 {
		parts = append(parts, "with "+clip(strings.Join(come, ", ")))
	}
	return strings.Join(parts, ", ")
}

func orUnset(text string) string {
	if text == "" {
		return "unset"
	}
	return clip(oneLine(text))
}

// clip shortens a long text.
func clip(text string) string {
	if runes := []rune(text); len(runes) > maxText {
		return string(runes[:maxText]) + "…"
	}
	return text
}

// maxDomains is how many domains a line names.
const maxDomains = 3

// About says whose a change is, "" for the whole server.
func (c Change) About() string {
	var parts []string
	if c.Listener != "" {
		parts = append(parts, "listener "+c.Listener)
	}
	switch n := len(c.Domains); {
	case n == 0:
	case slices.Contains(c.Domains, tuning.Template):
		parts = append(parts, "all domains without a setting of their own")
	case n == 1:
		parts = append(parts, "domain "+c.Domains[0])
	case n <= maxDomains:
		parts = append(parts, "domains "+strings.Join(c.Domains, ", "))
	default:
		parts = append(parts, fmt.Sprintf("domains %s and %d more", strings.Join(c.Domains[:maxDomains], ", "), n-maxDomains))
	}
	return strings.Join(parts, ", ")
}
