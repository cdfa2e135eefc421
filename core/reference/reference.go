package reference

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
)

// Entry explains a module, or a block of the core's own.
type Entry struct {
	// ID is the module's, such as "handler.greylist"; for the core's blocks it is
	// "block.server".
	ID string
	// Text says what the module does.
	Text string
	// Stages are those at which a handler acts.
	Stages []string
	// StageAttribute tells that the file chooses among them.
	StageAttribute bool
	// Settings are in the order of the struct.
	Settings []Setting
}

// Namespace is the part of the ID before the dot.
func (e Entry) Namespace() string { ns, _, _ := strings.Cut(e.ID, "."); return ns }

// Name is the part of the ID after the dot.
func (e Entry) Name() string { _, name, _ := strings.Cut(e.ID, "."); return name }

// Summary is the first sentence of the text.
func (e Entry) Summary() string {
	text := strings.Join(strings.Fields(e.Text), " ")
	if first, _, more := strings.Cut(text, ". "); more {
		return first + "."
	}
	return text
}

// Setting explains a setting.
type Setting struct {
	config.Setting
	// Path is its name with the names of the blocks around it: "limits.commands".
	Path string
	// Text says what it is for; "" if nobody has written it.
	Text string
}

// Entries explains the blocks of the core and all modules of a registry that the
// file can name.
func Entries(registry *core.Registry, comments Comments) []Entry {
	var list []Entry
	for _, b := range core.Blocks() {
		list = append(list, Entry{
			ID:       "block." + b.Name,
			Text:     b.Text,
			Settings: settings(b.Settings, comments),
		})
	}
	for _, info := range registry.Modules("") {
		if info.Namespace() == "service" {
			continue
		}
		t := reflect.TypeOf(info.New()).Elem()
		e := Entry{ID: info.ID, Text: comments.Module(t, info.ID), Settings: settings(t, comments)}
		if info.Namespace() == "handler" {
			e.Stages, e.StageAttribute = info.Stages.Names(), info.StageAttribute
		}
		if e.StageAttribute {
			e.Settings = append(e.Settings, stageSetting(info))
		}
		list = append(list, e)
	}
	return list
}

// stageSetting is the attribute by which the file chooses where a handler acts.
// The core reads it, not the module.
func stageSetting(info core.Info) Setting {
	text := "Where the handler acts."
	switch _, depends := info.New().(core.StageChooser); {
	case depends:
		text += " Without it, as soon as what it needs is known."
	case info.DefaultStages == 0:
		text += " Without it, at all of them."
	}
	return Setting{Path: "stage", Text: text, Setting: config.Setting{
		Name: "stage", Kind: config.KindAttribute, Type: "list of strings", Values: info.Stages.Names(),
		HasDefault: info.DefaultStages != 0, Default: strings.Join(info.DefaultStages.Names(), ", "),
	}}
}

func settings(t reflect.Type, comments Comments) []Setting {
	return flatten(config.Reference(t), "", comments)
}

// flatten puts the settings of nested blocks behind their block.
func flatten(list []config.Setting, prefix string, comments Comments) []Setting {
	var flat []Setting
	for _, s := range list {
		one := Setting{Setting: s, Path: prefix + s.Name, Text: comments.Field(s.Struct, s.Field, s.Values)}
		flat = append(flat, one)
		flat = append(flat, flatten(s.Settings, one.Path+".", comments)...)
	}
	return flat
}

// Facts says in a few words what values a setting takes.
func (s Setting) Facts() string {
	var facts []string
	switch s.Kind {
	case config.KindBlock:
		facts = append(facts, "block")
		if s.Repeated {
			facts = append(facts, "any number of them")
		}
	case config.KindLabel:
		facts = append(facts, "label")
	case config.KindBlocks:
		facts = append(facts, "blocks")
	case config.KindAttribute:
		facts = append(facts, s.Type)
	}
	if s.Values != nil {
		facts = append(facts, strings.Join(s.Values, " | "))
	}
	switch {
	case s.Min != "" && s.Max != "":
		facts = append(facts, fmt.Sprintf("from %s to %s", s.Min, s.Max))
	case s.Min != "":
		facts = append(facts, "at least "+s.Min)
	case s.Max != "":
		facts = append(facts, "at most "+s.Max)
	}
	switch {
	case s.Required:
		facts = append(facts, "required")
	case s.HasDefault && s.Default != "":
		facts = append(facts, "default "+s.Default)
	}
	if s.FileOnly {
		facts = append(facts, "file only")
	}
	return strings.Join(facts, ", ")
}
