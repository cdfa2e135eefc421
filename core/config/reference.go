package config

import (
	"fmt"
	"reflect"
	"slices"
)

// Kind is what a setting is in the file.
type Kind string

// The kinds of settings.
const (
	// KindAttribute is name = value.
	KindAttribute Kind = "attribute"
	// KindBlock is a nested block.
	KindBlock Kind = "block"
	// KindLabel is a label of the block itself.
	KindLabel Kind = "label"
	// KindBlocks stands for blocks of any name, such as the handlers of a chain.
	KindBlocks Kind = "blocks"
)

// Setting is what the tags of a field say, for the reference.
type Setting struct {
	// Name is the name in the file; "" for KindBlocks.
	Name string
	// Kind is what the setting is.
	Kind Kind
	// Type is how operators call the type of an attribute: "list of strings".
	Type string
	// Example is a value as the file would have it, or a block's header.
	Example string
	// Required says that the file must have it.
	Required bool
	// FileOnly says that only the file can set it, since it decides what the server
	// runs, reads or talks to.
	FileOnly bool
	// Repeated says that the block may stand several times.
	Repeated bool
	// Default is the value where the file has none, as the tag writes it; ""
	// with HasDefault means the empty value.
	Default string
	// HasDefault tells whether there is a default.
	HasDefault bool
	// Values are all values that there are, nil where any will do.
	Values []string
	// Min and Max bound the value, "" where nothing does.
	Min, Max string
	// Settings are those of a nested block. They are nil where the block's
	// contents are another's business, and inside a block of its own type.
	Settings []Setting
	// Struct and Field are the Go type that declares the field and the field's
	// name, where its comment is found.
	Struct reflect.Type
	Field  string
}

// Reference lists the settings of a tagged struct, or of a pointer to one, in
// the order of its fields.
func Reference(t reflect.Type) []Setting { return reference(deref(t), nil) }

func reference(t reflect.Type, within []reflect.Type) []Setting {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("config: reference of %s, which is not a struct", t))
	}
	if slices.Contains(within, t) {
		return nil
	}
	within = append(within, t)
	var list []Setting
	for _, f := range schemaOf(t).settings {
		out := Setting{
			Name: f.name, Required: f.required, FileOnly: f.fileOnly, Repeated: f.many,
			Default: f.def, HasDefault: f.hasDef, Values: slices.Clone(f.values),
		}
		out.Struct, out.Field = declaration(t, f.index)
		if f.min != nil {
			out.Min = f.min.text
		}
		if f.max != nil {
			out.Max = f.max.text
		}
		switch f.role {
		case roleAttribute:
			out.Kind, out.Type, out.Example = KindAttribute, typeName(f.typ), f.example()
		case roleBlock:
			out.Kind, out.Example = KindBlock, f.blockExample()
			out.Settings = reference(f.nested, within)
		case roleBody:
			out.Kind, out.Example = KindBlock, f.name
		case roleLabel:
			out.Kind, out.Type, out.Required = KindLabel, "string", !f.optional
		case roleRemain:
			out.Kind, out.Repeated = KindBlocks, true
		}
		list = append(list, out)
	}
	return list
}

// declaration gives the struct that declares a field, which may be embedded.
func declaration(t reflect.Type, index []int) (reflect.Type, string) {
	for _, i := range index[:len(index)-1] {
		t = t.Field(i).Type
	}
	return t, t.Field(index[len(index)-1]).Name
}
