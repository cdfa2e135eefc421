package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// ManOptions are the options of man.
type ManOptions struct {
	// Dir is where the pages are written; it must be named.
	Dir string
}

func newManCommand(s Streams) *cobra.Command {
	var o ManOptions
	cmd := &cobra.Command{
		Use:     "man",
		Short:   "Write the manual pages",
		Long:    "Write a manual page for each command into a directory.",
		Example: "  mox-like man --dir /usr/share/man/man1",
		Hidden:  true,
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runMan(cmd.Root(), &o, s) },
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "the `DIR` to write to")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

func runMan(root *cobra.Command, o *ManOptions, _ Streams) error {
	if o.Dir == "" {
		return badUsage("name the directory: mox-like man --dir /usr/share/man/man1")
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil { //nolint:gosec // manual pages are for everyone
		return fmt.Errorf("write manual pages: %w", err)
	}
	root.DisableAutoGenTag = true
	// 'completion SHELL --help' says what there is to say.
	root.RemoveCommand(slices.DeleteFunc(slices.Clone(root.Commands()), func(c *cobra.Command) bool { return c.Name() != "completion" })...)
	for _, cmd := range withBelow(root) {
		if err := writePage(cmd, o.Dir); err != nil {
			return fmt.Errorf("write manual pages: %w", err)
		}
	}
	return nil
}

// withBelow lists a command and those below it that people see.
func withBelow(cmd *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			list = append(list, withBelow(c)...)
		}
	}
	return list
}

// writePage writes the page of one command.
func writePage(cmd *cobra.Command, dir string) error {
	cmd.InitDefaultHelpFlag()
	cmd.Flags().VisitAll(namePlaceholder)
	cmd.InheritedFlags().VisitAll(namePlaceholder)
	header := &doc.GenManHeader{Section: "1", Source: "mox-like", Manual: "mox-like", Date: buildTime()}
	var page bytes.Buffer
	if err := doc.GenMan(cmd, header, &page); err != nil {
		return err
	}
	text := bytes.ReplaceAll(page.Bytes(), []byte("\\fP=\n"), []byte("\\fP\n")) // flags without a value
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
	return os.WriteFile(filepath.Join(dir, name), text, 0o644) //nolint:gosec // manual pages are for everyone
}

// placeholder is the value of a flag whose page shows its name in the place of
// the default.
type placeholder struct {
	pflag.Value
	name string
}

// Type is what the page and the help call the value.
func (p placeholder) Type() string { return p.name }

// namePlaceholder makes the page say --config=FILE, and not --config="". It may
// be called again.
func namePlaceholder(f *pflag.Flag) {
	if _, done := f.Value.(placeholder); done {
		return
	}
	name, usage := pflag.UnquoteUsage(f)
	if !slices.Contains([]string{"", "false", "[]"}, f.DefValue) {
		usage += " (default " + f.DefValue + ")"
	}
	f.Value, f.DefValue, f.NoOptDefVal, f.Usage = placeholder{f.Value, name}, name, "", usage
}

// buildTime is that of the revision that the build is of, nil where it is not
// known: pages of one build are then the same whenever they are written.
func buildTime() *time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, one := range info.Settings {
		if one.Key != "vcs.time" {
			continue
		}
		if t, err := time.Parse(time.RFC3339, one.Value); err == nil {
			return &t
		}
	}
	return nil
}
