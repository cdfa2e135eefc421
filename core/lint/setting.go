package lint

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
)

// setting gives the value of a setting of a module that has been decoded, by its
// name in the file: "limits.spool" for one in a nested block. The second result
// tells whether the module has such a setting of that type, and the blocks on the
// way are there.
func setting[T any](m core.Module, path string) (T, bool) {
	var none T
	if m == nil {
		return none, false
	}
	v := reflect.ValueOf(m)
	for step := range strings.SplitSeq(path, ".") {
		var ok bool
		if v, ok = field(v, step); !ok {
			return none, false
		}
	}
	return reflect.TypeAssert[T](v)
}

// field finds the field of a struct, or of one that is embedded in it, whose tag has
// the name.
func field(v reflect.Value, name string) (reflect.Value, bool) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return v, false
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return v, false
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			if found, ok := field(v.Field(i), name); ok {
				return found, true
			}
			continue
		}
		if tag, _, _ := strings.Cut(f.Tag.Get("config"), ","); tag == name && f.IsExported() {
			return v.Field(i), true
		}
	}
	return v, false
}

// settingsOf gives the attributes of a module at its top, by their names.
func settingsOf(m core.Module) map[string]reflect.Value {
	all := make(map[string]reflect.Value)
	for _, s := range config.Reference(reflect.TypeOf(m)) {
		if s.Kind != config.KindAttribute {
			continue
		}
		if v, ok := field(reflect.ValueOf(m), s.Name); ok {
			all[s.Name] = v
		}
	}
	return all
}

// sameSettings tells whether two modules of one kind have the same attributes.
func sameSettings(a, b core.Module) bool {
	other := settingsOf(b)
	for name, v := range settingsOf(a) {
		if w, ok := other[name]; !ok || !reflect.DeepEqual(v.Interface(), w.Interface()) {
			return false
		}
	}
	return true
}

// set tells whether the file gives an attribute a value.
func set(block *config.Block, name string) bool {
	_, ok := block.Attribute(name)
	return ok
}

// named quotes a listener for a sentence.
func named(l *core.PlannedListener) string { return fmt.Sprintf("listener %q", l.Name) }
