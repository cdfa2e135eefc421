package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/effective"
)

// ShowOptions are the options of config show.
type ShowOptions struct {
	Config *ConfigOptions
	// Query says what of it is shown.
	Query effective.Query
	// FileOnly leaves server and database out.
	FileOnly bool
	// Anonymise replaces all names.
	Anonymise bool
	// JSON prints for programs.
	JSON bool
}

func newConfigShowCommand(config *ConfigOptions, s Streams) *cobra.Command {
	o := ShowOptions{Config: config}
	cmd := &cobra.Command{
		Use:        "show",
		SuggestFor: []string{"get", "print", "dump", "effective"},
		Short:      "Show the configuration as it holds, and where each value comes from",
		Long: `Show the configuration as it holds: variables, includes, defaults and the settings
of the database are in it, and behind each value stands where it comes from. Where a
server runs it is what is in force, else what would be.

The output is a configuration file. Stars stand for secrets: for what comes from
env(), file() and sensitive variables, and for settings that are secrets or the
arguments of programs.

With --domain the chains are those of one domain, with its settings in them. With
--anonymise every domain, host, address, path and name is replaced, the same by the
same, so that it can be shown to others.

` + exitCodes,
		Example: `  mox-like config show
  mox-like config show --domain example.org --listener mx
  mox-like config show --anonymise > report.hcl`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runConfigShow(cmd.Context(), &o, s) },
	}
	o.addQuery(cmd)
	cmd.Flags().BoolVar(&o.Anonymise, "anonymise", false, "replace all names, for bug reports")
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print one JSON object")
	return cmd
}

// addQuery gives a command the flags that say what is looked at.
func (o *ShowOptions) addQuery(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.Query.Domain, "domain", "", "the chains as they hold for this `DOMAIN`")
	flags.StringVar(&o.Query.Listener, "listener", "", "only the listener of this `NAME`")
	flags.BoolVar(&o.FileOnly, "file-only", false, "look at the file alone, not at a server or a database")
}

func runConfigShow(ctx context.Context, o *ShowOptions, s Streams) error {
	c, from, err := o.look(ctx, s)
	if err != nil {
		return err
	}
	if o.Anonymise {
		c = c.Anonymise()
	}
	if o.JSON {
		e := json.NewEncoder(s.Out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(c)
	}
	fmt.Fprintf(s.Out, "# %s\n", from)
	return c.Print(s.Out)
}

// What a configuration is looked at by.
const (
	fromServer   = "The configuration in force"
	fromDatabase = "The configuration that a server would have: none runs"
	fromFile     = "The configuration of the file alone"
)

// look describes the configuration, and says what it was looked at by.
func (o *ShowOptions) look(ctx context.Context, s Streams) (*effective.Config, string, error) {
	if o.FileOnly {
		c, err := describeFile(o.Config, o.Query, s)
		return c, fromFile, err
	}
	client, dir, err := o.Config.connectRunning(ctx, s)
	switch {
	case err == nil:
		c, err := client.EffectiveConfig(ctx, o.Query)
		return c, fromServer, errors.Join(err, client.Close())
	case !errors.Is(err, control.ErrNotRunning):
		return nil, "", err
	}
	if _, err := os.Stat(filepath.Join(dir, databaseName)); errors.Is(err, fs.ErrNotExist) {
		c, err := describeFile(o.Config, o.Query, s)
		return c, fromDatabase + ", and there is no database yet", err
	}
	var c *effective.Config
	err = o.Config.operate(ctx, s, func(ops control.Operations) (err error) {
		c, err = ops.EffectiveConfig(ctx, o.Query)
		return err
	})
	if errors.Is(err, control.ErrRefused) {
		// The diagnostics of the file say more.
		if _, invalid := describeFile(o.Config, o.Query, s); invalid != nil {
			return nil, "", invalid
		}
	}
	return c, fromDatabase, err
}

// databaseName is the database in a data directory.
const databaseName = "mox-like.db"

// describeFile describes the configuration of the file alone. It prints what is
// wrong with it.
func describeFile(o *ConfigOptions, q effective.Query, s Streams) (*effective.Config, error) {
	options, err := o.server()
	if err != nil {
		return nil, err
	}
	c, ds, sources, err := core.Configuration(options, q, nil)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, printInvalid(s, ds, sources, core.ErrInvalid)
	}
	return c, nil
}
