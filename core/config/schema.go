package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/zclconf/go-cty/cty"
)

// role is what a field stands for in the file.
type role int

const (
	roleAttribute role = iota
	roleBlock
	roleBody
	roleLabel
	roleRemain
)

// setting is one tagged field of a struct.
type setting struct {
	name     string
	role     role
	index    []int
	typ      reflect.Type
	required bool
	optional bool
	fileOnly bool
	// many marks a block or body field that takes several blocks.
	many bool
	// def is the text of the default tag.
	def    string
	hasDef bool
	values []string
	// sample is the text of the example tag.
	sample string
	min    *bound
	max    *bound
	// nested is the struct of a block field.
	nested reflect.Type
}

// bound is a min or max tag, as written and as a number.
type bound struct {
	text  string
	value float64
}

// schema is what the tags of a struct say.
type schema struct {
	typ      reflect.Type
	settings []setting
}

var schemas sync.Map // reflect.Type to *schema; filled from types only

// schemaOf reads the tags of a struct type. It panics where they are wrong.
func schemaOf(t reflect.Type) *schema {
	if s, ok := schemas.Load(t); ok {
		return s.(*schema)
	}
	s := &schema{typ: t}
	s.collect(t, nil)
	seen := make(map[string]bool)
	for _, f := range s.settings {
		if seen[f.name] {
			panic(fmt.Sprintf("config: %s has the setting %q twice", t, f.name))
		}
		seen[f.name] = true
	}
	got, _ := schemas.LoadOrStore(t, s)
	return got.(*schema)
}

func (s *schema) collect(t reflect.Type, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(slices.Clone(index), i)
		tag, tagged := f.Tag.Lookup("config")
		switch {
		case !tagged && f.Anonymous && f.Type.Kind() == reflect.Struct:
			s.collect(f.Type, at)
		case !tagged || tag == "-":
			for _, word := range []string{"default", "values", "min", "max", "example"} {
				if _, ok := f.Tag.Lookup(word); ok && tag != "-" {
					panic(fmt.Sprintf("config: %s.%s has a %s tag without a config tag", t, f.Name, word))
				}
			}
		case !f.IsExported():
			panic(fmt.Sprintf("config: %s.%s has a config tag but is not exported", t, f.Name))
		default:
			s.settings = append(s.settings, newSetting(t, f, at, tag))
		}
	}
}

func newSetting(t reflect.Type, f reflect.StructField, index []int, tag string) setting {
	words := strings.Split(tag, ",")
	out := setting{name: words[0], index: index, typ: f.Type}
	bug := func(format string, args ...any) {
		panic(fmt.Sprintf("config: %s.%s: %s", t, f.Name, fmt.Sprintf(format, args...)))
	}
	for _, word := range words[1:] {
		switch word {
		case "required":
			out.required = true
		case "optional":
			out.optional = true
		case "fileonly":
			out.fileOnly = true
		case "block":
			out.role = roleBlock
		case "body":
			out.role = roleBody
		case "label":
			out.role = roleLabel
		case "remain":
			out.role = roleRemain
		default:
			bug("unknown word %q in the config tag", word)
		}
	}
	if (out.name == "") != (out.role == roleRemain) {
		bug("the config tag needs a name, and remain needs none")
	}
	if out.optional && out.role != roleLabel {
		bug("optional is for labels")
	}
	out.checkType(bug)
	out.readTags(f.Tag, bug)
	return out
}

var (
	blockType  = reflect.TypeFor[*Block]()
	blocksType = reflect.TypeFor[[]*Block]()
)

// checkType panics if the field's type does not fit its role.
func (s *setting) checkType(bug func(string, ...any)) {
	switch s.role {
	case roleAttribute:
		if typeName(s.typ) == "" {
			bug("no setting can have the type %s", s.typ)
		}
	case roleBlock:
		if s.typ == blockType || s.typ == blocksType {
			s.role, s.many = roleBody, s.typ == blocksType
			return
		}
		t := s.typ
		if t.Kind() == reflect.Slice {
			s.many, t = true, t.Elem()
		}
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			bug("a block is a struct, not %s", s.typ)
		}
		s.nested = t
	case roleBody:
		if s.typ != blockType && s.typ != blocksType {
			bug("a body is a *config.Block or []*config.Block, not %s", s.typ)
		}
		s.many = s.typ == blocksType
	case roleLabel:
		if s.typ.Kind() != reflect.String {
			bug("a label is a string, not %s", s.typ)
		}
	case roleRemain:
		if s.typ != blocksType {
			bug("remain is a []*config.Block, not %s", s.typ)
		}
	}
}

// readTags reads default, values, min, max and example.
func (s *setting) readTags(tag reflect.StructTag, bug func(string, ...any)) {
	if values, ok := tag.Lookup("values"); ok {
		if base := elementType(s.typ); textType(base) == "" && base.Kind() != reflect.String {
			bug("values are for strings and lists of strings")
		}
		s.values = strings.Split(values, ",")
	}
	s.min = s.readBound(tag, "min", bug)
	s.max = s.readBound(tag, "max", bug)
	s.sample = tag.Get("example")
	if s.sample != "" {
		if err := s.setFromTag(reflect.New(s.typ).Elem(), s.sample); err != nil {
			bug("example %q: %v", s.sample, err)
		}
	}
	s.def, s.hasDef = tag.Lookup("default")
	if !s.hasDef {
		return
	}
	if s.role != roleAttribute || s.required {
		bug("only an attribute that is not required has a default")
	}
	if err := s.setFromTag(reflect.New(s.typ).Elem(), s.def); err != nil {
		bug("default %q: %v", s.def, err)
	}
}

func (s *setting) readBound(tag reflect.StructTag, word string, bug func(string, ...any)) *bound {
	text, ok := tag.Lookup(word)
	if !ok {
		return nil
	}
	v := reflect.New(elementType(s.typ)).Elem()
	if err := setValue(v, cty.StringVal(text)); err != nil {
		bug("%s %q: %v", word, text, err)
	}
	n, ok := number(v)
	if !ok {
		bug("%s is for numbers, durations and sizes, not %s", word, s.typ)
	}
	return &bound{text: text, value: n}
}

// setFromTag puts the text of a default or example into v and checks it like a
// written value.
func (s *setting) setFromTag(v reflect.Value, text string) error {
	val := cty.StringVal(text)
	if isList(s.typ) {
		var list []cty.Value
		for item := range strings.SplitSeq(text, ",") {
			if item != "" {
				list = append(list, cty.StringVal(item))
			}
		}
		val = cty.TupleVal(list)
	}
	if err := setValue(v, val); err != nil {
		return err
	}
	return s.check(v)
}

// isList tells whether a type is a list, or a pointer to one.
func isList(t reflect.Type) bool {
	t = deref(t)
	return t.Kind() == reflect.Slice && textType(t) == ""
}

// deref gives what a pointer type points to.
func deref(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// elementType gives the type of the single values of a list, or the type itself.
func elementType(t reflect.Type) reflect.Type {
	if isList(t) {
		return deref(deref(t).Elem())
	}
	return deref(t)
}
