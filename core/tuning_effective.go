package core

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/tuning"
)

// Effective gives each attribute of a handler as it holds for a domain, of all
// handlers if handler is "", by listener and in the order of the chain.
func (t *Tuning) Effective(ctx context.Context, domain, handler string) ([]tuning.Effective, error) {
	domain, err := normalDomain(domain)
	if err != nil {
		return nil, err
	}
	held, err := t.host.tuned(ctx)
	if err != nil {
		return nil, err
	}
	d, ok := held.domain(domain)
	if !ok {
		return nil, requestError("the domain %s does not live here", domain)
	}
	return held.effective(d, handler)
}

func (t *tuned) effective(d *Domain, handler string) ([]tuning.Effective, error) {
	v := t.view(d.Name, t.inForce(d.Name))
	layers := v.layers(d)
	for _, l := range layers {
		if l.view != nil {
			v.overlay(l.name)
		}
	}
	sources := v.sources()
	b := &builder{gen: t.gen, tuning: make(map[*config.Block]bool)}
	var out []tuning.Effective
	found := false
	for _, l := range t.listeners {
		for _, s := range flat(l.of(d.Name)) {
			if handler != "" && s.Name != handler {
				continue
			}
			found = true
			for _, setting := range s.attributes() {
				e := tuning.Effective{Listener: l.listener, Key: tuning.Key{Handler: s.Name, Attribute: setting.Name}, Source: tuning.FromDefault}
				e.Value = defaultText(setting)
				b.strongest(&e, s, layers, sources)
				switch {
				case e.Source == tuning.FromDefault:
				case setting.FileOnly:
					e.Value = fileOnly
				case isSecret(setting):
					e.Value = config.Hidden
				}
				out = append(out, e)
			}
		}
	}
	if !found {
		hint := handlerHint(handler, t.handlers(d.Name))
		return nil, requestError("no chain that holds for %s has a handler %q. %s", d.Name, handler, hint)
	}
	return out, nil
}

// strongest looks for the strongest layer that has an attribute.
func (b *builder) strongest(e *tuning.Effective, s *step, layers []layer, sources map[string][]byte) {
	take := func(source tuning.Source, block *config.Block, place string) bool {
		if block == nil {
			return false
		}
		a, ok := block.Attribute(e.Attribute)
		if !ok {
			return false
		}
		if place == "" {
			place = b.positionOf(a.NameRange)
		}
		e.Source, e.Place, e.Value = source, place, block.Show(e.Attribute, sources)
		return true
	}
	for _, l := range slices.Backward(layers) {
		if take(l.source, l.settings(s.Name), l.place) {
			return
		}
	}
	take(tuning.FromHandler, s.plain, "")
}

// attributes gives the settings that a handler's block can have, its own and then
// those of all handlers.
func (s *step) attributes() []config.Setting { return settingsOf(s.info) }

// settingsOf gives the attributes of a handler's module and those of all handlers.
func settingsOf(info Info) []config.Setting {
	types := []reflect.Type{reflect.TypeOf(info.New()), reflect.TypeFor[handlerSettings]()}
	if info.StageAttribute {
		types = append(types, reflect.TypeFor[stageSettings]())
	}
	var list []config.Setting
	for _, t := range types {
		for _, setting := range config.Reference(t) {
			if setting.Kind == config.KindAttribute {
				list = append(list, setting)
			}
		}
	}
	return list
}

// fileOnly stands for the value of a setting that only the file can make: it may
// have secrets in it, such as the arguments of a program, and Place says where it
// stands.
const fileOnly = "(in the file)"

// isSecret tells whether the value of a setting is nothing for those who may look
// at a domain's settings: a secret by its type, and what only the file can set,
// such as the arguments of a program.
func isSecret(s config.Setting) bool {
	if s.FileOnly {
		return true
	}
	field, ok := s.Struct.FieldByName(s.Field)
	if !ok {
		return false
	}
	t := field.Type
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t == reflect.TypeFor[mail.Secret]()
}

// isSecret tells whether a handler of that name has a secret there.
func (t *tuned) isSecret(domain string, key tuning.Key) bool {
	secret := func(s *step) bool {
		return s.Name == key.Handler && slices.ContainsFunc(s.attributes(), func(a config.Setting) bool {
			return a.Name == key.Attribute && isSecret(a)
		})
	}
	for _, l := range t.listeners {
		if slices.ContainsFunc(flat(l.steps), secret) || slices.ContainsFunc(flat(l.of(domain)), secret) {
			return true
		}
	}
	return false
}

// defaultText gives the default of an attribute as the file would have it, "" if
// there is none.
func defaultText(s config.Setting) string {
	if !s.HasDefault {
		return ""
	}
	bare := s.Type == "bool" || s.Type == "number" || s.Type == "whole number"
	if !strings.HasPrefix(s.Type, "list of ") {
		if bare {
			return s.Default
		}
		return quote(s.Default)
	}
	bare = s.Type == "list of numbers" || s.Type == "list of whole numbers" || s.Type == "list of bools"
	var items []string
	for item := range strings.SplitSeq(s.Default, ",") {
		switch {
		case item == "":
		case bare:
			items = append(items, item)
		default:
			items = append(items, quote(item))
		}
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func quote(text string) string { return string(hclwrite.TokensForValue(cty.StringVal(text)).Bytes()) }
