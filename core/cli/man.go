package cli

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// ManOptions are the options of man.
type ManOptions struct {
	// Dir is where the pages are written.
	Dir string
}

func newManCommand(s Streams) *cobra.Command {
	var o ManOptions
	cmd := &cobra.Command{
		Use:     "man",
		Short:   "Write the manual pages",
		Long:    "Write a manual page for each command.",
		Example: "  mox-like man --dir /usr/share/man/man1",
		Hidden:  true,
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runMan(cmd.Root(), &o, s) },
	}
	cmd.Flags().StringVar(&o.Dir, "dir", ".", "the directory to write to")
	return cmd
}

func runMan(root *cobra.Command, o *ManOptions, _ Streams) error {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil { //nolint:gosec // manual pages are for everyone
		return fmt.Errorf("write manual pages: %w", err)
	}
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "1", Source: "mox-like", Manual: "mox-like", Date: buildTime()}
	if err := doc.GenManTree(root, header, o.Dir); err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	return nil
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
