package core

import (
	"maps"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/effective"
	"github.com/mox-like/mox-like/core/tuning"
)

// moduleType is the struct that a module's block is decoded into.
func moduleType(info Info) reflect.Type { return reflect.TypeOf(info.New()) }

var domainType = reflect.TypeFor[Domain]()

// coreBlocks are the blocks at the top that the core decodes, in the order in which
// they are described. Those that have no label hold with their defaults where the
// file does not have them.
func coreBlocks() []coreBlock {
	return []coreBlock{
		{"server", nil, reflect.TypeFor[ServerSettings]()},
		{"log", nil, reflect.TypeFor[LogSettings]()},
		{"trace", nil, reflect.TypeFor[TraceSettings]()},
		{"dns", nil, reflect.TypeFor[dns.Settings]()},
		{"store", []string{"sqlite"}, reflect.TypeFor[StoreSettings]()},
	}
}

type coreBlock struct {
	name   string
	labels []string
	typ    reflect.Type
}

// top describes the blocks at the top that are neither listeners nor domains.
func (d *describer) top() []effective.Block {
	var out []effective.Block
	for _, c := range coreBlocks() {
		blocks := d.settings.file.Root.Blocks(c.name)
		if len(blocks) == 0 {
			blocks = []*config.Block{{Type: c.name, Labels: c.labels, Body: new(hclsyntax.Body)}}
		}
		for _, block := range blocks {
			out = append(out, d.block(block, c.typ))
		}
	}
	for _, block := range d.settings.TLS {
		if info, ok := d.settingsRegistry().Find("tls." + block.Label(0)); ok {
			out = append(out, d.block(block, moduleType(info)))
		}
	}
	return out
}

// block describes a block of the file that nothing lies over.
func (d *describer) block(block *config.Block, types ...reflect.Type) effective.Block {
	var reference []config.Setting
	for _, t := range types {
		reference = append(reference, config.Reference(t)...)
	}
	return d.describe(block, reference)
}

// describe describes a block by the reference of its settings, in their order.
func (d *describer) describe(block *config.Block, reference []config.Setting) effective.Block {
	out := effective.Block{Type: block.Type, Labels: block.Labels, Place: d.place(block.DefRange)}
	for _, setting := range reference {
		if setting.Kind != config.KindAttribute {
			continue
		}
		if v, ok := d.written(block, setting, tuning.FromHandler, ""); ok {
			out.Values = append(out.Values, v)
		} else if v, ok := standard(setting); ok {
			out.Values = append(out.Values, v)
		}
	}
	out.Blocks = d.nested(block, reference)
	return out
}

// nested describes the blocks in a block whose contents the reference knows.
func (d *describer) nested(block *config.Block, reference []config.Setting) []effective.Block {
	var out []effective.Block
	for _, setting := range reference {
		if setting.Kind != config.KindBlock || setting.Settings == nil {
			continue
		}
		for _, inner := range block.Blocks(setting.Name) {
			out = append(out, d.describe(inner, setting.Settings))
		}
	}
	return out
}

// laid describes the block of a handler with the layers over it.
func (d *describer) laid(block *config.Block, info Info, layers []layer) effective.Block {
	name := block.Type
	if block.Label(0) != "" {
		name = block.Label(0)
	}
	out := effective.Block{Type: block.Type, Labels: block.Labels, Place: d.place(block.DefRange)}
	merged := block
	for i := range layers {
		if over := layers[i].block(name); over != nil {
			merged = merged.Merge(over)
		}
	}
	for _, setting := range settingsOf(info) {
		if v, ok := d.strongest(name, setting, layers); ok {
			out.Values = append(out.Values, v)
		} else if v, ok := d.written(block, setting, tuning.FromHandler, ""); ok {
			out.Values = append(out.Values, v)
		} else if v, ok := standardOf(info, setting); ok {
			out.Values = append(out.Values, v)
		}
	}
	out.Blocks = d.nested(merged, config.Reference(moduleType(info)))
	return out
}

// strongest finds the value of the strongest layer that has one.
func (d *describer) strongest(handler string, setting config.Setting, layers []layer) (effective.Value, bool) {
	for i := len(layers) - 1; i >= 0; i-- {
		l := &layers[i]
		block := l.settings(handler)
		if block == nil {
			continue
		}
		v, ok := d.written(block, setting, l.source, l.place)
		if !ok {
			continue
		}
		for _, g := range l.given[handler] {
			if g.Name == setting.Name {
				v.Since = g.Since.UTC()
			}
		}
		return v, true
	}
	return effective.Value{}, false
}

// written describes a value that a block has.
func (d *describer) written(block *config.Block, setting config.Setting, source tuning.Source, place string) (effective.Value, bool) {
	r, ok := block.Resolve(setting.Name, d.sources)
	if !ok {
		return effective.Value{}, false
	}
	v := effective.Value{Name: setting.Name, Text: r.Text, Source: source, Place: place, Secret: r.Secret, Free: isFree(setting)}
	if place == "" {
		v.Place = d.place(r.Place)
	}
	for _, u := range r.Uses {
		use := effective.Use{Kind: string(u.Kind), Name: u.Name, Source: string(u.Source), By: u.By}
		if u.Source == config.VariableDefault {
			use.Place = d.place(d.variables[u.Name])
		}
		v.Uses = append(v.Uses, use)
	}
	if holdsSecret(setting, r.Text) {
		v.Text, v.Secret = config.Hidden, true
	}
	if v.Secret && d.salt != "" {
		v.Fingerprint = r.Fingerprint(d.salt)
	}
	return v, true
}

// standard describes a default.
func standard(setting config.Setting) (effective.Value, bool) {
	if !setting.HasDefault {
		return effective.Value{}, false
	}
	return effective.Value{Name: setting.Name, Text: defaultText(setting), Source: tuning.FromDefault}, true
}

// standardOf describes the default of a handler's attribute. That of timeout is the
// module's own; a target has none of on_error, since its errors defer.
func standardOf(info Info, setting config.Setting) (effective.Value, bool) {
	switch {
	case setting.Name == "timeout" && !setting.HasDefault && info.Timeout > 0:
		return effective.Value{Name: setting.Name, Text: quote(config.FormatDuration(info.Timeout)), Source: tuning.FromDefault}, true
	case setting.Name == "on_error" && info.Target:
		return effective.Value{}, false
	default:
		return standard(setting)
	}
}

// place says where something stands, "" where no file has it.
func (d *describer) place(r hcl.Range) string {
	if r.Filename == "" {
		return ""
	}
	return d.at.positionOf(r)
}

// holdsSecret tells whether a value must not be shown to those who may read the
// rest of the file: a secret by its type, the arguments of a program, and a URL with
// a password or parameters.
func holdsSecret(setting config.Setting, text string) bool {
	if !setting.FileOnly || setting.Type == "" {
		return isSecret(setting)
	}
	plain := setting
	plain.FileOnly = false
	if isSecret(plain) || setting.Type == "list of strings" && setting.Values == nil {
		return true
	}
	return slices.ContainsFunc(quoted(text), func(word string) bool {
		u, err := url.Parse(word)
		return err == nil && u.Host != "" && (u.User != nil || u.RawQuery != "")
	})
}

// isFree tells whether a setting takes any text: not one word of a few, and neither
// a number nor a time, a size or a rate.
func isFree(setting config.Setting) bool {
	field, ok := setting.Struct.FieldByName(setting.Field)
	if setting.Values != nil || !ok {
		return false
	}
	t := field.Type
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[time.Duration](), reflect.TypeFor[config.Size](), reflect.TypeFor[config.Rate]():
		return false
	}
	switch t.Kind() {
	case reflect.String, reflect.Struct, reflect.Map, reflect.Interface, reflect.Array:
		return true
	default:
		return false
	}
}

// quoted gives the texts in quotes of an expression that are values as they stand.
func quoted(text string) []string {
	tokens, _ := hclsyntax.LexExpression([]byte(text), "", hcl.InitialPos)
	var list []string
	for _, t := range tokens {
		if t.Type == hclsyntax.TokenQuotedLit {
			list = append(list, string(t.Bytes))
		}
	}
	return list
}

// domainSettings describes what a domain changes of handlers.
func (d *describer) domainSettings(domain *Domain) []effective.Block {
	database := d.view.given(domain.Name)
	names := slices.Collect(maps.Keys(database))
	for _, block := range domain.Settings {
		names = append(names, block.Label(0))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	source := []tuning.Source{tuning.FromFile, tuning.FromDatabase}
	if domain.Name == tuning.Template {
		source = []tuning.Source{tuning.FromFileTemplate, tuning.FromDatabaseTemplate}
	}
	layers := []layer{{source: source[0], domain: domain}, {source: source[1], place: overlayName(domain.Name), name: domain.Name, given: database, view: d.view}}
	var out []effective.Block
	for _, name := range names {
		reference, info := d.handlerSettings(domain, name)
		b := effective.Block{Type: "settings", Labels: []string{name}}
		if block := domain.settingsFor(name); block != nil {
			b.Place = d.place(block.DefRange)
			b.Blocks = d.nested(block, info)
		}
		for _, setting := range reference {
			if v, ok := d.strongest(name, setting, layers); ok {
				b.Values = append(b.Values, v)
			}
		}
		out = append(out, b)
	}
	return out
}

// handlerSettings gives the attributes that handlers of a name have in the chains of
// a domain, and the references of their modules.
func (d *describer) handlerSettings(domain *Domain, name string) (attributes, reference []config.Setting) {
	seen := make(map[string]bool)
	add := func(steps []*step) {
		for _, s := range flat(steps) {
			if s.Name != name || seen["module "+s.info.ID] {
				continue
			}
			seen["module "+s.info.ID] = true
			reference = append(reference, config.Reference(moduleType(s.info))...)
			for _, setting := range s.attributes() {
				if !seen[setting.Name] {
					seen[setting.Name] = true
					attributes = append(attributes, setting)
				}
			}
		}
	}
	for _, l := range d.tuned.listeners {
		add(l.of(domain.Name))
		if domain.Name == tuning.Template {
			for _, own := range slices.Sorted(maps.Keys(l.domains)) {
				add(l.domains[own])
			}
		}
	}
	return attributes, reference
}
