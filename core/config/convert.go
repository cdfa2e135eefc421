package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/mox-like/mox-like/core/mail"
)

// Expr is an expression that decoding leaves as it stands. The zero value means
// that the file does not have it.
type Expr struct {
	hcl.Expression
}

// IsSet tells whether the file has the expression.
func (e Expr) IsSet() bool { return e.Expression != nil }

var (
	durationType = reflect.TypeFor[time.Duration]()
	networkType  = reflect.TypeFor[netip.Prefix]()
	exprType     = reflect.TypeFor[Expr]()
	unmarshaler  = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// namedType is how operators call a type that is written as a string.
type namedType struct {
	name    string
	example string
}

var textTypes = map[reflect.Type]namedType{
	durationType:                      {"duration", `"15m"`},
	reflect.TypeFor[Size]():           {"size", `"25MB"`},
	reflect.TypeFor[Rate]():           {"rate", `"100/1h"`},
	reflect.TypeFor[netip.Addr]():     {"IP address", `"192.0.2.1"`},
	reflect.TypeFor[netip.AddrPort](): {"IP address with port", `"192.0.2.1:25"`},
	reflect.TypeFor[mail.Address]():   {"mail address", `"alice@example.org"`},
	networkType:                       {"network", `"192.0.2.0/24"`}, // or an address, see parseNetwork
}

// textType names a type that is read from a string, "" for other types.
func textType(t reflect.Type) string {
	if known, ok := textTypes[t]; ok {
		return known.name
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		return "string"
	}
	return ""
}

// typeName gives the type as operators say it, "" for one that no setting can
// have.
func typeName(t reflect.Type) string {
	if t == exprType {
		return "expression"
	}
	if name := textType(t); name != "" {
		return name
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Float64:
		return "number"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "whole number"
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Pointer {
			return ""
		}
		return typeName(t.Elem())
	case reflect.Slice:
		return compound("list of ", t.Elem())
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return ""
		}
		return compound("map of ", t.Elem())
	default:
		return ""
	}
}

func compound(prefix string, elem reflect.Type) string {
	name := typeName(elem)
	switch {
	case name == "" || name == "expression":
		return ""
	case strings.HasSuffix(name, "address"):
		return prefix + name + "es"
	case name == "IP address with port":
		return prefix + "IP addresses with ports"
	}
	head, rest, more := strings.Cut(name, " of ")
	if more {
		return prefix + head + "s of " + rest
	}
	return prefix + name + "s"
}

// example gives a value of the type as the file would have it.
func example(t reflect.Type) string {
	if known, ok := textTypes[t]; ok {
		return known.example
	}
	switch {
	case t == exprType:
		return `tx.user != ""`
	case textType(t) != "":
		return `"text"`
	}
	switch t.Kind() {
	case reflect.String:
		return `"text"`
	case reflect.Bool:
		return "true"
	case reflect.Float64:
		return "2.5"
	case reflect.Pointer:
		return example(t.Elem())
	case reflect.Slice:
		return "[" + example(t.Elem()) + "]"
	case reflect.Map:
		return `{ "name" = ` + example(t.Elem()) + " }"
	default:
		return "10"
	}
}

// errWrongType is returned when a value is of another kind than the setting;
// what is expected the caller knows.
var errWrongType = errors.New("wrong type")

// valueError says which part of a list or map is wrong.
type valueError struct {
	// path leads to the part: int for lists, string for maps.
	path []any
	err  error
}

func (e *valueError) Error() string { return e.err.Error() }
func (e *valueError) Unwrap() error { return e.err }

func within(step any, err error) error {
	if inner, ok := errors.AsType[*valueError](err); ok {
		return &valueError{path: append([]any{step}, inner.path...), err: inner.err}
	}
	return &valueError{path: []any{step}, err: err}
}

// setValue converts a known, unmarked value into the Go value v.
func setValue(v reflect.Value, val cty.Value) error {
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		p := reflect.New(t.Elem())
		if err := setValue(p.Elem(), val); err != nil {
			return err
		}
		v.Set(p)
		return nil
	}
	if val.IsNull() {
		return errWrongType
	}
	if textType(t) != "" {
		return setText(v, val)
	}
	switch t.Kind() {
	case reflect.String:
		if val.Type() != cty.String {
			return errWrongType
		}
		v.SetString(val.AsString())
		return nil
	case reflect.Bool:
		b, err := primitive(val, cty.Bool)
		if err != nil {
			return err
		}
		v.SetBool(b.True())
		return nil
	case reflect.Slice:
		return setSlice(v, val)
	case reflect.Map:
		return setMap(v, val)
	default:
		return setNumber(v, val)
	}
}

// primitive converts strings to numbers and bools, since env() and --var give
// strings. Numbers do not become strings: that is mostly a forgotten unit.
func primitive(val cty.Value, to cty.Type) (cty.Value, error) {
	if val.Type() != to && val.Type() != cty.String {
		return cty.NilVal, errWrongType
	}
	out, err := convert.Convert(val, to)
	if err != nil {
		return cty.NilVal, errWrongType
	}
	return out, nil
}

func setText(v reflect.Value, val cty.Value) error {
	if val.Type() != cty.String {
		return errWrongType
	}
	text := val.AsString()
	switch v.Type() {
	case durationType:
		d, err := ParseDuration(text)
		v.SetInt(int64(d))
		return err
	case networkType:
		network, err := parseNetwork(text)
		v.Set(reflect.ValueOf(network))
		return err
	}
	return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
}

func setNumber(v reflect.Value, val cty.Value) error {
	n, err := primitive(val, cty.Number)
	if err != nil {
		return err
	}
	f := n.AsBigFloat()
	if v.Kind() == reflect.Float64 {
		x, _ := f.Float64()
		if math.IsInf(x, 0) {
			return errors.New("the number is too large")
		}
		v.SetFloat(x)
		return nil
	}
	if !f.IsInt() {
		return errors.New("a whole number is needed")
	}
	if v.CanUint() {
		if u, accuracy := f.Uint64(); accuracy == 0 && !v.OverflowUint(u) {
			v.SetUint(u)
			return nil
		}
		return errors.New("the number is out of range")
	}
	i, accuracy := f.Int64()
	if accuracy != 0 || v.OverflowInt(i) {
		return errors.New("the number is out of range")
	}
	v.SetInt(i)
	return nil
}

// setSlice takes a list, tuple or set, and a single value for a list of one.
func setSlice(v reflect.Value, val cty.Value) error {
	if t := val.Type(); !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		if t.IsObjectType() || t.IsMapType() {
			return errWrongType
		}
		val = cty.TupleVal([]cty.Value{val})
	}
	out := reflect.MakeSlice(v.Type(), 0, val.LengthInt())
	for it := val.ElementIterator(); it.Next(); {
		_, item := it.Element()
		elem := reflect.New(v.Type().Elem()).Elem()
		if err := setValue(elem, item); err != nil {
			if val.LengthInt() == 1 && errors.Is(err, errWrongType) {
				return err
			}
			return within(out.Len(), err)
		}
		out = reflect.Append(out, elem)
	}
	v.Set(out)
	return nil
}

func setMap(v reflect.Value, val cty.Value) error {
	if t := val.Type(); !t.IsObjectType() && !t.IsMapType() {
		return errWrongType
	}
	out := reflect.MakeMap(v.Type())
	for it := val.ElementIterator(); it.Next(); {
		key, item := it.Element()
		elem := reflect.New(v.Type().Elem()).Elem()
		if err := setValue(elem, item); err != nil {
			return within(key.AsString(), err)
		}
		out.SetMapIndex(reflect.ValueOf(key.AsString()).Convert(v.Type().Key()), elem)
	}
	v.Set(out)
	return nil
}

// number gives a value that can be compared with min and max.
func number(v reflect.Value) (float64, bool) {
	switch {
	case v.Type() != durationType && v.Type() != reflect.TypeFor[Size]() && textType(v.Type()) != "":
		return 0, false
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanFloat():
		return v.Float(), true
	}
	return 0, false
}

// rangeError is the error of a value beyond min or max.
type rangeError struct{ message string }

func (e *rangeError) Error() string { return e.message }

// unlistedError is the error of a string that the values tag does not have.
type unlistedError struct{ given string }

func (e *unlistedError) Error() string { return "not one of the values" }

// check holds a converted value against values, min and max.
func (s *setting) check(v reflect.Value) error {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if v.Kind() == reflect.Slice && textType(v.Type()) == "" {
		for i := range v.Len() {
			if err := s.check(v.Index(i)); err != nil {
				return within(i, err)
			}
		}
		return nil
	}
	if s.values != nil {
		if text := textOf(v); !slices.Contains(s.values, text) {
			return &unlistedError{given: text}
		}
	}
	n, ok := number(v)
	if ok && s.min != nil && n < s.min.value {
		return &rangeError{"it is at least " + s.min.text}
	}
	if ok && s.max != nil && n > s.max.value {
		return &rangeError{"it is at most " + s.max.text}
	}
	return nil
}

// textOf gives the text of a string or of what marshals to one.
func textOf(v reflect.Value) string {
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		if text, err := m.MarshalText(); err == nil {
			return string(text)
		}
	}
	if s, ok := reflect.TypeAssert[fmt.Stringer](v); ok {
		return s.String()
	}
	if v.Kind() == reflect.String {
		return v.String()
	}
	return ""
}
