package core

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/tuning"
)

// Export gives the files of the configuration in force, by name, with the settings
// of the database merged in: those that change. They are valid, and mean without
// the database what they meant with it. Settings that are not in force are left
// out.
func (t *Tuning) Export(ctx context.Context) (map[string][]byte, error) {
	held, release, err := t.host.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	files, err := held.gen.settings.file.Edited(held.edits())
	if err != nil {
		return nil, fmt.Errorf("export configuration: %w", err)
	}
	return files, nil
}

// edits gives the settings in force as edits of the file.
func (t *tuned) edits() []config.Edit {
	var list []config.Edit
	for _, name := range slices.Sorted(maps.Keys(t.given)) {
		d, _ := t.domain(name)
		for _, handler := range slices.Sorted(maps.Keys(t.given[name])) {
			e := config.Edit{
				At: d.block.DefRange, Type: "domain", Label: tuning.Template,
				Nested: "settings", NestedLabel: handler, Settings: t.given[name][handler],
			}
			list = append(list, e)
		}
	}
	return list
}
