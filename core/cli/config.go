package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
)

// ExportOptions are the options of config export.
type ExportOptions struct {
	Config ConfigOptions
	// Dir is where the files go; "" means the output.
	Dir string
}

func newConfigCommand(s Streams) *cobra.Command {
	var o ExportOptions
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show, compare, draw and export the configuration as it holds",
		Long:  "Work on the configuration as a whole, with the settings of the database in it.\n\n" + exitCodes,
		Example: `  mox-like config show --domain example.org
  mox-like config diff new.hcl
  mox-like config graph
  mox-like config export > new.hcl`,
		Args: onlyCommands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.Config.add(cmd)
	cmd.AddCommand(newConfigShowCommand(&o.Config, s), newConfigDiffCommand(&o.Config, s), newConfigGraphCommand(&o.Config, s), newConfigExportCommand(&o, s))
	return cmd
}

func newConfigExportCommand(o *ExportOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the configuration with the settings of the database in it",
		Long: `Write the configuration file with the settings that 'domain set' has put into the
database merged in, and its comments kept. Where the file replaces the one in use,
the settings in the database can be unset: it means the same without them.

The main file goes to the output. Where the settings go into a file that it includes,
--dir takes all files that change, by their names.`,
		Example: `  mox-like config export > new.hcl
  mox-like config export --dir /tmp/new`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runConfigExport(cmd.Context(), o, s) },
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "write the files that change into this `FOLDER`, over nothing that is there")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

func runConfigExport(ctx context.Context, o *ExportOptions, s Streams) error {
	file, err := o.Config.file()
	if err != nil {
		return err
	}
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		changed, err := ops.ExportConfig(ctx)
		if err != nil {
			return err
		}
		if o.Dir != "" {
			return writeExport(o.Dir, filepath.Dir(absolute(file)), changed, s)
		}
		text, ok := changed[file]
		if !ok {
			text, ok = changed[absolute(file)]
		}
		switch {
		case ok && len(changed) == 1:
		case len(changed) > 0:
			return fmt.Errorf("the settings go into %s: name a folder for what is written by --dir", strings.Join(slices.Sorted(maps.Keys(changed)), ", "))
		default:
			if text, err = os.ReadFile(file); err != nil {
				return fmt.Errorf("export configuration: %w", err)
			}
		}
		_, err = s.Out.Write(text)
		return err
	})
}

// writeExport writes the files that change, so that they stand to each other as
// the originals do below base. It overwrites nothing.
func writeExport(dir, base string, changed map[string][]byte, s Streams) error {
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		relative, err := filepath.Rel(base, absolute(name))
		if err != nil || !filepath.IsLocal(relative) {
			relative = filepath.Base(name)
		}
		path := filepath.Join(dir, relative)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		_, err = out.Write(changed[name])
		if err := errors.Join(err, out.Close()); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		fmt.Fprintln(s.Out, path)
	}
	return nil
}
