package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// mistake tells what is wrong with a value. A secret one is not quoted.
func (s *setting) mistake(a *hclsyntax.Attribute, value cty.Value, secret bool, err error) Diagnostics {
	var ds Diagnostics
	at, name := a.Expr.Range(), s.name
	want := s.typ
	if part, ok := errors.AsType[*valueError](err); ok {
		at = partRange(a.Expr, part.path)
		err = part.err
		for _, step := range part.path {
			if value.CanIterateElements() {
				name += stepText(step, secret)
			}
			value, want = valueAt(value, step), deref(want).Elem()
		}
	}
	given := "the value"
	if text, ok := quoted(value); ok && !secret {
		given = text
	}
	var listed *unlistedError
	var bounds *rangeError
	switch {
	case errors.Is(err, errWrongType):
		ds.Errorf(at, "config/wrong-type", "attribute %q must be %s", name, article(typeName(want))).
			WithDetail("Here stands %s. Write it as %s = %s.", kindOf(value), s.name, s.exampleFor(value, secret))
	case errors.As(err, &listed):
		ds.Errorf(at, "config/bad-value", "attribute %q: %s is not one of its values", name, given).
			Detail = s.valuesDetail("value", listed.given)
		if secret {
			ds[0].Detail = fmt.Sprintf("Its values are %s.", enumerate(s.values))
		}
	case errors.As(err, &bounds):
		ds.Errorf(at, "config/bad-value", "attribute %q is out of range", name).
			WithDetail("%s.", capital(bounds.message))
	default:
		ds.Append(s.unreadable(a, name, given, secret, want, err))
		ds[0].Range = at
	}
	return ds
}

// unreadable tells about a text that is not of its type.
func (s *setting) unreadable(a *hclsyntax.Attribute, name, given string, secret bool, want reflect.Type, err error) Diagnostics {
	var ds Diagnostics
	known, ok := textTypes[deref(want)]
	hostBits, inside := errors.AsType[*hostBitsError](err)
	switch {
	case inside && secret:
		ds.Errorf(a.NameRange, "config/bad-value", "attribute %q: the value is not a network", name).
			WithDetail("The address has bits beyond the prefix length. It comes from a secret and is not shown.")
	case inside:
		ds.Errorf(a.NameRange, "config/bad-value", "attribute %q: %s is an address within a network", name, given).
			WithDetail("Did you mean the network, \"%s\", or that address alone, \"%s\"?", hostBits.network, hostBits.address)
	case ok && deref(want) == networkType:
		ds.Errorf(a.NameRange, "config/bad-value", "attribute %q: %s is not a network", name, given).
			WithDetail("Write it as %s = %s. An address alone, such as \"192.0.2.1\", is a network too.", s.name, s.example())
	case ok && strings.HasPrefix(known.name, "IP"):
		ds.Errorf(a.NameRange, "config/bad-value", "attribute %q: %s is not %s", name, given, article(known.name)).
			WithDetail("Write it as %s = %s.", s.name, s.example())
	case ok:
		ds.Errorf(a.NameRange, "config/bad-value", "attribute %q: %s is not %s", name, given, article(known.name)).
			WithDetail("%s.", capital(err.Error()))
	case secret:
		ds.Errorf(a.NameRange, "config/bad-value", "attribute %q: the value is not valid", name).
			WithDetail("It comes from a secret and is not shown.")
	default:
		ds.Errorf(a.NameRange, "config/bad-value", "attribute %q: %v", name, err)
	}
	return ds
}

// valuesDetail gives the values that there are, and the near one. noun is what
// they are.
func (s *setting) valuesDetail(noun, given string) string {
	if len(s.values) == 1 {
		return fmt.Sprintf("Its only %s is %q.", noun, s.values[0])
	}
	list := fmt.Sprintf("Its %ss are %s.", noun, enumerate(s.values))
	if near := Suggest(given, s.values); near != "" {
		return fmt.Sprintf("Did you mean %q? %s", near, list)
	}
	return list
}

// example gives a value of the setting as the file would have it.
func (s *setting) example() string {
	list := []string{s.sample}
	switch {
	case s.sample != "" && isList(s.typ):
		list = strings.Split(s.sample, ",")
	case s.sample != "":
	case s.values != nil:
		list = s.values[:1]
	default:
		return example(s.typ)
	}
	if base := elementType(s.typ); base.Kind() == reflect.String || textType(base) != "" {
		list = quoteAll(list)
	}
	if text := strings.Join(list, ", "); isList(s.typ) {
		return "[" + text + "]"
	}
	return list[0]
}

// exampleFor gives an example that keeps the number that stands in the file
// without its unit.
func (s *setting) exampleFor(value cty.Value, secret bool) string {
	if value.Type() != cty.Number || value.IsNull() || secret {
		return s.example()
	}
	n, accuracy := value.AsBigFloat().Int64()
	if accuracy != 0 || n <= 0 {
		return s.example()
	}
	switch deref(s.typ) {
	case durationType:
		return fmt.Sprintf(`"%ds"`, n)
	case reflect.TypeFor[Rate]():
		return fmt.Sprintf(`"%d/1h"`, n)
	case reflect.TypeFor[Size]():
		if n < 1000 {
			return fmt.Sprintf(`"%dMB"`, n)
		}
		return fmt.Sprintf("%q", Size(n))
	}
	return s.example()
}

func stepText(step any, secret bool) string {
	if i, ok := step.(int); ok {
		return fmt.Sprintf("[%d]", i)
	}
	if secret {
		return ".…"
	}
	return fmt.Sprintf(".%s", step)
}

// valueAt gives a part of a list or map, or the value itself where it stands
// for a list of one.
func valueAt(value cty.Value, step any) cty.Value {
	if !value.CanIterateElements() {
		return value
	}
	i := 0
	for it := value.ElementIterator(); it.Next(); i++ {
		key, item := it.Element()
		if i == step || key.Type() == cty.String && key.AsString() == step {
			return item
		}
	}
	return value
}

// maxQuoted bounds the length of a value that a message repeats, in bytes.
const maxQuoted = 60

// quoted gives a string as a message repeats it.
func quoted(value cty.Value) (string, bool) {
	if value.Type() != cty.String || value.IsNull() || len(value.AsString()) > maxQuoted {
		return "", false
	}
	return fmt.Sprintf("%q", value.AsString()), true
}

// kindOf says what kind of value it is.
func kindOf(value cty.Value) string {
	switch t := value.Type(); {
	case value.IsNull():
		return "null"
	case t == cty.String:
		return "a string"
	case t == cty.Number:
		return "a number"
	case t == cty.Bool:
		return "a bool"
	case t.IsObjectType(), t.IsMapType():
		return "a map"
	default:
		return "a list"
	}
}

// article puts a or an in front.
func article(noun string) string {
	if strings.ContainsRune("aeioAEIO", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// capital makes the first letter large.
func capital(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}
