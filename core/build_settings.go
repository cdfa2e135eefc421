package core

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/tuning"
)

// origin is where the settings of a handler in a chain come from, for traces: its
// own block, and what lies over it. It does not change, and costs little until
// somebody asks: a server may have tens of thousands of them.
type origin struct {
	settings *settings
	info     *Info
	handler  string
	plain    *config.Block
	layers   []layer // the weakest first
}

// comesFrom tells a step where its settings come from. Of the layers it keeps those
// that have something for the handler, without the texts that were made of them.
func (b *builder) comesFrom(s *step, plain *config.Block, layers []layer) {
	o := &origin{settings: b.gen.settings, info: &s.info, handler: s.Name, plain: plain}
	n := 0
	for i := range layers {
		if layers[i].has(s.Name) {
			n++
		}
	}
	if n > 0 {
		o.layers = make([]layer, 0, n)
	}
	for i := range layers {
		if l := layers[i]; l.has(s.Name) {
			l.view = nil
			o.layers = append(o.layers, l)
		}
	}
	s.origin, s.Settings = o, mail.NewSettings(o.list)
}

// same tells whether other layers say the same of the handler.
func (o *origin) same(layers []layer) bool {
	mine := o.layers
	for i := range layers {
		l := &layers[i]
		if !l.has(o.handler) {
			continue
		}
		if len(mine) == 0 || mine[0].source != l.source || mine[0].place != l.place || mine[0].block(o.handler) != l.block(o.handler) ||
			!slices.EqualFunc(mine[0].given[o.handler], l.given[o.handler], config.Given.Equal) {
			return false
		}
		mine = mine[1:]
	}
	return len(mine) == 0
}

// has tells whether a layer has something for a handler.
func (l *layer) has(handler string) bool { return len(l.given[handler]) > 0 || l.block(handler) != nil }

// block gives what the file has for a handler in this layer, nil if that is nothing.
func (l *layer) block(handler string) *config.Block {
	if l.domain == nil {
		return nil
	}
	return l.domain.settingsFor(handler)
}

// list gives each setting, defaults too, and behind them what nested blocks have:
// of those only what the file writes, since a block has many defaults.
func (o *origin) list() []mail.Setting {
	at := &builder{gen: &generation{settings: o.settings}}
	var list []mail.Setting
	for _, setting := range settingsOf(*o.info) {
		list = append(list, clipped(o.strongest(at, setting)))
	}
	merged := o.plain
	for i := range o.layers {
		if block := o.layers[i].block(o.handler); block != nil {
			merged = merged.Merge(block)
		}
	}
	list = o.nested(at, list, "", merged, config.Reference(reflect.TypeOf(o.info.New())))
	if more := len(list) - maxSettings; more > 0 {
		list = append(list[:maxSettings], mail.Setting{Attribute: "…", Value: fmt.Sprintf("%d more settings of blocks", more), Source: string(tuning.FromHandler)})
	}
	return list
}

// Bounds of what a trace keeps of the settings of one handler.
const (
	maxSettings     = 300
	maxSettingValue = 1024 // bytes
)

// clipped shortens a value that is very long, a list of networks say, so that it
// can still be told from another.
func clipped(s mail.Setting) mail.Setting {
	if n := len(s.Value); n > maxSettingValue {
		sum := sha256.Sum256([]byte(s.Value))
		s.Value = fmt.Sprintf("%s… (%d bytes, SHA-256 %x…)", mail.Printable(s.Value[:maxSettingValue], maxSettingValue), n, sum[:8])
	}
	return s
}

// strongest finds the value of an attribute in the strongest layer that has it.
func (o *origin) strongest(at *builder, setting config.Setting) mail.Setting {
	out := mail.Setting{Attribute: setting.Name}
	for i := len(o.layers) - 1; i >= 0; i-- {
		l := &o.layers[i]
		if block := l.block(o.handler); block != nil && o.take(at, &out, l.source, block, setting) {
			return out
		}
		for _, g := range l.given[o.handler] {
			if g.Name == setting.Name {
				out.Value, out.Source, out.Place, out.Since = shown(setting, g.Value), string(l.source), l.place, g.Since.UTC()
				return out
			}
		}
	}
	if o.take(at, &out, tuning.FromHandler, o.plain, setting) {
		return out
	}
	out.Value, out.Source = defaultText(setting), string(tuning.FromDefault)
	return out
}

// take takes an attribute of a block of the file, if it is there.
func (o *origin) take(at *builder, out *mail.Setting, source tuning.Source, block *config.Block, setting config.Setting) bool {
	a, ok := block.Attribute(setting.Name)
	if !ok {
		return false
	}
	out.Value = shown(setting, block.Show(setting.Name, o.settings.file.Sources))
	out.Source, out.Place = string(source), at.positionOf(a.NameRange)
	return true
}

// shown gives what may be shown of a value that is set.
func shown(setting config.Setting, value string) string {
	switch {
	case setting.FileOnly:
		return fileOnly
	case isSecret(setting):
		return config.Hidden
	default:
		return value
	}
}

// nested adds what blocks within a block set, with their headers in front. Of a
// block whose contents are another's business it says only that it is there.
func (o *origin) nested(at *builder, list []mail.Setting, header string, block *config.Block, reference []config.Setting) []mail.Setting {
	for _, inner := range block.Blocks() {
		if len(list) > maxSettings {
			return list
		}
		known := slices.IndexFunc(reference, func(s config.Setting) bool { return s.Kind == config.KindBlock && s.Name == inner.Type })
		name := header + inner.Header()
		source := string(o.sourceOf(inner))
		if known < 0 || reference[known].Settings == nil || reference[known].FileOnly {
			list = append(list, mail.Setting{Attribute: name, Value: fileOnly, Source: source, Place: at.position(inner)})
			continue
		}
		var set bool
		for _, setting := range reference[known].Settings {
			one := mail.Setting{Attribute: name + "." + setting.Name}
			if setting.Kind == config.KindAttribute && o.take(at, &one, "", inner, setting) {
				one.Source = source
				list = append(list, clipped(one))
				set = true
			}
		}
		before := len(list)
		if list = o.nested(at, list, name+".", inner, reference[known].Settings); !set && len(list) == before {
			list = append(list, mail.Setting{Attribute: name, Source: source, Place: at.position(inner)})
		}
	}
	return list
}

// sourceOf tells whether a nested block stands in the handler's own or in one that
// lies over it.
func (o *origin) sourceOf(nested *config.Block) tuning.Source {
	for i := range o.layers {
		block := o.layers[i].block(o.handler)
		if block != nil && block.DefRange.Filename == nested.DefRange.Filename && block.Body.SrcRange.ContainsPos(nested.DefRange.Start) {
			return o.layers[i].source
		}
	}
	return tuning.FromHandler
}
