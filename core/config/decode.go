package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// WithDefaults makes the struct of a block that the file does not have, with the
// defaults of its tags, where *block is nil.
func WithDefaults[T any](block **T) {
	if *block == nil {
		*block = new(T)
		Decode(&Block{Body: new(hclsyntax.Body)}, *block)
	}
}

// Decode fills structs from a block. Each of into is a pointer to a tagged
// struct and takes its own settings; a setting of the block that none of them
// has is an error. All mistakes are collected. Where there are none, fields
// that the block does not set have their defaults.
func Decode(b *Block, into ...any) Diagnostics {
	d := &decoder{block: b, env: b.environment(), taken: make(map[string]bool)}
	for _, target := range into {
		v := reflect.ValueOf(target)
		if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
			panic(fmt.Sprintf("config: decode into %T, which is not a pointer to a struct", target))
		}
		d.targets = append(d.targets, v.Elem())
	}
	return d.run()
}

// decoder decodes one block.
type decoder struct {
	block   *Block
	env     *environment
	targets []reflect.Value
	// taken are the names of attributes and blocks that some target has.
	taken map[string]bool
	// attributes and blocks are the names that the targets have, for
	// suggestions.
	attributes, blocks []string
	// labels are the label settings of all targets in order.
	labels []*setting
	// missing are required attributes that the block does not have.
	missing []*setting
	// hasRest says that a target takes all blocks that no other takes.
	hasRest bool
	ds      Diagnostics
}

func (d *decoder) run() Diagnostics {
	var rest []reflect.Value
	for _, target := range d.targets {
		s := schemaOf(target.Type())
		for i := range s.settings {
			f := &s.settings[i]
			field := target.FieldByIndex(f.index)
			switch f.role {
			case roleAttribute:
				again := d.taken[f.name]
				d.note(&d.attributes, f.name)
				d.attribute(f, field, again)
			case roleBlock, roleBody:
				d.note(&d.blocks, f.name)
				d.nested(f, field)
			case roleLabel:
				d.label(f, field)
			case roleRemain:
				rest = append(rest, field)
			}
		}
	}
	d.hasRest = rest != nil
	for _, field := range rest {
		d.remain(field)
	}
	meant := d.unknownAttributes()
	for _, f := range d.missing {
		if !slices.Contains(meant, f.name) {
			d.reportMissing(f)
		}
	}
	d.unknownBlocks()
	d.unknownLabels()
	return d.ds
}

func (d *decoder) note(names *[]string, name string) {
	if !d.taken[name] {
		*names = append(*names, name)
	}
	d.taken[name] = true
}

// attribute decodes one attribute into its field. Where several targets have
// it, its mistakes are told once.
func (d *decoder) attribute(f *setting, field reflect.Value, again bool) {
	told := len(d.ds)
	if again {
		defer func() { d.ds = d.ds[:told] }()
	}
	a, ok := d.block.Attribute(f.name)
	if !ok {
		d.absent(f, field)
		return
	}
	if f.typ == exprType {
		field.Set(reflect.ValueOf(Expr{a.Expr}))
		return
	}
	value, ds := d.env.evaluate(a.Expr, f.values)
	if d.ds.Append(ds); ds.HasErrors() {
		return
	}
	secret := value.ContainsMarked()
	value, _ = value.UnmarkDeep()
	if value.IsKnown() && value.IsNull() {
		d.absent(f, field)
		return
	}
	if !value.IsWhollyKnown() {
		return
	}
	v := reflect.New(f.typ).Elem()
	err := setValue(v, value)
	if err == nil {
		err = f.check(v)
	}
	if err != nil {
		d.ds.Append(f.mistake(a, value, secret, err))
		return
	}
	field.Set(v)
}

// absent gives an attribute that the file does not have its default.
func (d *decoder) absent(f *setting, field reflect.Value) {
	if f.required {
		if !slices.ContainsFunc(d.missing, func(m *setting) bool { return m.name == f.name }) {
			d.missing = append(d.missing, f)
		}
		return
	}
	f.applyDefault(field)
}

func (d *decoder) reportMissing(f *setting) {
	at := d.block.DefRange
	if a, ok := d.block.Attribute(f.name); ok {
		at = a.Expr.Range()
	} else if len(d.block.Blocks(f.name)) > 0 {
		return // reported as a block that should be an attribute
	}
	d.ds.Errorf(at, "config/missing-attribute", "%s needs the attribute %q", d.where(), f.name).
		WithDetail("Write %s = %s.", f.name, f.example())
}

// applyDefault sets the default, if the tag has one.
func (s *setting) applyDefault(field reflect.Value) {
	if s.hasDef {
		v := reflect.New(s.typ).Elem()
		if err := s.setFromTag(v, s.def); err != nil {
			panic(fmt.Sprintf("config: default of %q: %v", s.name, err))
		}
		field.Set(v)
	}
}

// applyDefaults sets the defaults of a struct whose block the file does not
// have.
func applyDefaults(v reflect.Value) {
	s := schemaOf(v.Type())
	for i := range s.settings {
		f := &s.settings[i]
		switch field := v.FieldByIndex(f.index); {
		case f.role == roleAttribute:
			f.applyDefault(field)
		case f.role == roleBlock && f.typ.Kind() == reflect.Struct:
			applyDefaults(field)
		}
	}
}

// where names the block in messages.
func (d *decoder) where() string {
	if d.block.Type == "" {
		return "the file"
	}
	return d.block.Header()
}

// nested decodes the blocks of one name into their field.
func (d *decoder) nested(f *setting, field reflect.Value) {
	list := d.block.Blocks(f.name)
	if len(list) == 0 {
		d.noBlock(f, field)
		return
	}
	if !f.many {
		for _, b := range list[1:] {
			d.ds.Errorf(b.DefRange, "config/duplicate-block", "the block %q stands twice", f.name).
				WithDetail("There can be one. Remove one of them, or move the settings of one into the other.").
				WithRelated(list[0].DefRange, "the first one stands here")
		}
		list = list[:1]
	}
	if f.role == roleBody {
		if f.many {
			field.Set(reflect.ValueOf(list))
		} else {
			field.Set(reflect.ValueOf(list[0]))
		}
		return
	}
	for _, b := range list {
		v := reflect.New(f.nested)
		d.ds.Append(Decode(b, v.Interface()))
		switch {
		case f.many && f.typ.Elem().Kind() == reflect.Pointer:
			field.Set(reflect.Append(field, v))
		case f.many:
			field.Set(reflect.Append(field, v.Elem()))
		case f.typ.Kind() == reflect.Pointer:
			field.Set(v)
		default:
			field.Set(v.Elem())
		}
	}
}

func (d *decoder) noBlock(f *setting, field reflect.Value) {
	if _, ok := d.block.Attribute(f.name); ok {
		return // reported as an attribute that should be a block
	}
	if f.required {
		d.ds.Errorf(d.beginning(), "config/missing-block", "%s needs a block %q", d.where(), f.name).
			WithDetail("Write %s { … }.", f.blockExample())
		return
	}
	if f.role == roleBlock && f.typ.Kind() == reflect.Struct {
		applyDefaults(field)
	}
}

// beginning is where a missing block is told: the header, and for the file its
// first line.
func (d *decoder) beginning() hcl.Range {
	at := d.block.DefRange
	if d.block.Type == "" {
		at.Start, at.End = hcl.InitialPos, hcl.InitialPos
	}
	return at
}

// blockExample gives the header of a block as the file would have it.
func (s *setting) blockExample() string {
	words := []string{s.name}
	if s.nested == nil {
		return s.name
	}
	for _, f := range schemaOf(s.nested).settings {
		if f.role == roleLabel && !f.optional {
			words = append(words, `"`+strings.ToUpper(f.name)+`"`)
		}
	}
	return strings.Join(words, " ")
}

// label decodes a label. A label that several targets have is one.
func (d *decoder) label(f *setting, field reflect.Value) {
	i := slices.IndexFunc(d.labels, func(l *setting) bool { return l.name == f.name })
	known := i >= 0
	if !known {
		i = len(d.labels)
		d.labels = append(d.labels, f)
	}
	if i >= len(d.block.Labels) {
		if !f.optional && !known {
			d.ds.Errorf(d.block.DefRange, "config/missing-label", "%s needs a label, its %s", d.where(), f.name).
				WithDetail("Write %s %q { … }.", d.block.Header(), strings.ToUpper(f.name))
		}
		return
	}
	text := d.block.Labels[i]
	switch {
	case f.values != nil && !slices.Contains(f.values, text):
		d.ds.Errorf(d.block.LabelRange(i), "config/bad-value", "%s: %q is not a %s", d.where(), text, f.name).
			Detail = f.valuesDetail(f.name, text)
	case text == "" && !known:
		d.ds.Errorf(d.block.LabelRange(i), "config/bad-value", "%s: the %s is empty", d.where(), f.name)
	default:
		field.SetString(text)
	}
}

// remain gives the blocks that no other field takes.
func (d *decoder) remain(field reflect.Value) {
	var list []*Block
	for _, b := range d.block.Blocks() {
		if !d.taken[b.Type] {
			list = append(list, b)
		}
	}
	field.Set(reflect.ValueOf(list))
}

// unknownAttributes reports what no target has, and gives the names that were
// probably meant.
func (d *decoder) unknownAttributes() (meant []string) {
	for _, a := range d.block.Attributes() {
		switch {
		case slices.Contains(d.attributes, a.Name):
		case slices.Contains(d.blocks, a.Name):
			d.ds.Errorf(a.NameRange, "config/unknown-attribute", "%q is a block, not an attribute", a.Name).
				WithDetail("Write %s { … } without the equals sign.", a.Name)
		default:
			meant = append(meant, Suggest(a.Name, d.attributes))
			d.ds.Errorf(a.NameRange, "config/unknown-attribute", "%s has no attribute %q", d.where(), a.Name).
				Detail = d.hint(a.Name, d.attributes, "attributes")
		}
	}
	return meant
}

func (d *decoder) unknownBlocks() {
	for _, b := range d.block.Blocks() {
		switch {
		case slices.Contains(d.blocks, b.Type):
		case slices.Contains(d.attributes, b.Type):
			d.ds.Errorf(b.TypeRange, "config/unknown-block", "%q is an attribute, not a block", b.Type).
				WithDetail("Write %s = %s.", b.Type, d.attributeExample(b.Type))
		case !d.hasRest:
			d.ds.Errorf(b.TypeRange, "config/unknown-block", "%s has no block %q", d.where(), b.Type).
				Detail = d.hint(b.Type, d.blocks, "blocks")
		}
	}
}

// Hinter is a target of Decode that knows of some settings that it does not have
// where they belong.
type Hinter interface {
	// Hint says what to do with an attribute or block of that name, "" if nothing
	// is known of it.
	Hint(name string) string
}

// hint says where a setting belongs, else gives the near name, else the names
// that there are.
func (d *decoder) hint(name string, names []string, kind string) string {
	for _, target := range d.targets {
		if h, ok := reflect.TypeAssert[Hinter](target.Addr()); ok && h.Hint(name) != "" {
			return h.Hint(name)
		}
		if block := blockWith(target.Type(), name); block != "" {
			return fmt.Sprintf("It belongs into %s { … }.", block)
		}
	}
	if near := Suggest(name, append(slices.Clone(names), append(d.attributes, d.blocks...)...)); near != "" {
		return fmt.Sprintf("Did you mean %q?", near)
	}
	if len(names) == 0 {
		return fmt.Sprintf("It takes no %s.", kind)
	}
	if len(names) == 1 {
		return fmt.Sprintf("Its only %s is %q.", strings.TrimSuffix(kind, "s"), names[0])
	}
	return fmt.Sprintf("Its %s are %s.", kind, enumerate(names))
}

// blockWith gives the header of the nested block of a struct that has an
// attribute, "" if none has.
func blockWith(t reflect.Type, attribute string) string {
	for _, block := range schemaOf(t).settings {
		if block.role == roleBlock && slices.ContainsFunc(schemaOf(block.nested).settings, func(f setting) bool {
			return f.role == roleAttribute && f.name == attribute
		}) {
			return block.blockExample()
		}
	}
	return ""
}

func (d *decoder) attributeExample(name string) string {
	for _, target := range d.targets {
		s := schemaOf(target.Type())
		for i := range s.settings {
			if s.settings[i].name == name {
				return s.settings[i].example()
			}
		}
	}
	return ""
}

func (d *decoder) unknownLabels() {
	for i := len(d.labels); i < len(d.block.Labels); i++ {
		detail := fmt.Sprintf("Remove it: %s takes no label.", d.block.Type)
		if n := len(d.labels); n > 0 {
			names := make([]string, n)
			for j, l := range d.labels {
				names[j] = l.name
			}
			detail = fmt.Sprintf("Remove it: the labels of %s are %s.", d.block.Type, enumerate(names))
		}
		d.ds.Errorf(d.block.LabelRange(i), "config/unknown-label", "%s: the label %q is one too many", d.where(), d.block.Labels[i]).
			Detail = detail
	}
}

// enumerate gives `"a", "b" and "c"`.
func enumerate(names []string) string {
	quoted := quoteAll(names)
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " and " + quoted[last]
}

// quoteAll puts each name in quotes.
func quoteAll(names []string) []string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	return quoted
}

// partRange gives the place of a part of a list or map, as deep as the text
// shows it.
func partRange(expr hcl.Expression, path []any) hcl.Range {
	for _, step := range path {
		part := partOf(expr, step)
		if part == nil {
			break
		}
		expr = part
	}
	return expr.Range()
}

func partOf(expr hcl.Expression, step any) hcl.Expression {
	switch e := expr.(type) {
	case *hclsyntax.TupleConsExpr:
		if i, ok := step.(int); ok && i < len(e.Exprs) {
			return e.Exprs[i]
		}
	case *hclsyntax.ObjectConsExpr:
		if item, ok := itemOf(e, step); ok {
			return item.ValueExpr
		}
	}
	return nil
}

// itemOf gives the item of a map that has a key.
func itemOf(e *hclsyntax.ObjectConsExpr, name any) (hclsyntax.ObjectConsItem, bool) {
	for _, item := range e.Items {
		key, hds := item.KeyExpr.Value(nil)
		if !hds.HasErrors() && key.Type() == cty.String && key.IsKnown() && key.AsString() == name {
			return item, true
		}
	}
	return hclsyntax.ObjectConsItem{}, false
}
