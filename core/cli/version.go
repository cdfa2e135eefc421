package cli

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core"
)

func newVersionCommand(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version and what the build holds",
		Long:    "Print the version of this build, the Go that made it, its modules and the\nlibraries in it.",
		Example: "  mox-like version",
		Args:    arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return runVersion(core.DefaultRegistry, s)
		},
	}
}

func runVersion(registry *core.Registry, s Streams) error {
	fmt.Fprintf(s.Out, "mox-like %s\n", version())
	if info, ok := debug.ReadBuildInfo(); ok {
		fmt.Fprintf(s.Out, "built with %s\n", info.GoVersion)
	}
	var ids []string
	for _, m := range registry.Modules("") {
		ids = append(ids, m.ID)
	}
	fmt.Fprintf(s.Out, "modules: %s\n", strings.Join(ids, " "))
	if info, ok := debug.ReadBuildInfo(); ok {
		slices.SortFunc(info.Deps, func(a, b *debug.Module) int { return cmp.Compare(a.Path, b.Path) })
		for _, dep := range info.Deps {
			if dep.Replace != nil {
				dep = dep.Replace
			}
			fmt.Fprintf(s.Out, "library: %s %s\n", dep.Path, dep.Version)
		}
	}
	return nil
}

// version gives the version of the build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return versionOf(info)
}

// versionOf gives the module's version, or the revision that it was built from.
func versionOf(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	settings := make(map[string]string)
	for _, one := range info.Settings {
		settings[one.Key] = one.Value
	}
	revision := settings["vcs.revision"]
	if revision == "" {
		return "devel"
	}
	changed := ""
	if settings["vcs.modified"] == "true" {
		changed = " with changes"
	}
	return fmt.Sprintf("devel %.12s%s", revision, changed)
}
