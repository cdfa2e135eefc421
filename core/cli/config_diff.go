package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/effective"
	"github.com/mox-like/mox-like/core/tuning"
)

// CompareOptions are the options of config diff.
type CompareOptions struct {
	Config *ConfigOptions
	// Files are one, which is compared with what is in force, or two.
	Files []string
	// JSON prints for programs.
	JSON bool
}

func newConfigDiffCommand(of *ConfigOptions, s Streams) *cobra.Command {
	o := CompareOptions{Config: of}
	cmd := &cobra.Command{
		Use:        "diff [OLD] NEW",
		SuggestFor: []string{"compare"},
		Short:      "Tell what changes between two configurations, in words",
		Long: `Tell what is otherwise in a configuration: which handlers come, go and move in the
chain of which listener, and which values are others for which domain. How it is
written does not count: comments, the order of blocks, variables, includes, and
defaults that are written out.

With one file it is compared with what is in force, or would be where no server runs,
with the settings of the database in both: what a reload with that file changes.

Exit status:
  0  they mean the same
  1  they differ
  2  it could not be done; the message says why`,
		Example: `  mox-like config diff new.hcl
  mox-like config diff /etc/mox-like/mox-like.hcl new.hcl`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return badUsage("name the new file, or the old and the new one: %s old.hcl new.hcl", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"hcl"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Files = args
			err := runConfigDiff(cmd.Context(), &o, s)
			if exit, ok := errors.AsType[*exitError](err); ok && exit == errInvalid {
				return &exitError{code: exitFailed, message: "compare configurations: a configuration has errors"}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print one JSON object")
	return cmd
}

// errDiffer is the end of a command that has found differences, which it has
// printed.
var errDiffer = &exitError{code: 1}

func runConfigDiff(ctx context.Context, o *CompareOptions, s Streams) error {
	q := effective.Query{Salt: rand.Text()}
	var before *effective.Config
	var rows []tuning.Setting
	from := ""
	var err error
	if len(o.Files) == 2 {
		before, err = o.file(o.Files[0], q, nil, s)
	} else {
		show := ShowOptions{Config: o.Config, Query: q}
		if before, from, err = show.look(ctx, s); err == nil {
			rows, err = o.rows(ctx, s, from)
		}
	}
	if err != nil {
		return err
	}
	after, err := o.file(o.Files[len(o.Files)-1], q, rows, s)
	if err != nil {
		return err
	}
	changes := effective.Compare(before, after)
	if err := o.print(s, from, changes); err != nil {
		return err
	}
	if len(changes) > 0 {
		return errDiffer
	}
	return nil
}

// file describes a file with settings of the database over it.
func (o *CompareOptions) file(name string, q effective.Query, rows []tuning.Setting, s Streams) (*effective.Config, error) {
	if err := readable(name); err != nil {
		return nil, err
	}
	variables, err := o.Config.variables()
	if err != nil {
		return nil, err
	}
	c, ds, sources, err := core.Configuration(core.Options{ConfigFile: name, Config: config.Options{Variables: variables}}, q, rows)
	if err == nil && c == nil {
		err = printInvalid(s, ds, sources, core.ErrInvalid)
	}
	return c, err
}

// rows gives the settings of the database, if there is one.
func (o *CompareOptions) rows(ctx context.Context, s Streams, from string) ([]tuning.Setting, error) {
	if from != fromServer && from != fromDatabase {
		return nil, nil
	}
	var rows []tuning.Setting
	err := o.Config.operate(ctx, s, func(ops control.Operations) error {
		list := func(p control.Page) ([]string, string, error) { return ops.TunedDomains(ctx, p) }
		return pages(0, list, func(domain string) error {
			of, err := ops.DomainSettings(ctx, domain)
			rows = append(rows, of...)
			return err
		})
	})
	return rows, err
}

func (o *CompareOptions) print(s Streams, from string, changes []effective.Change) error {
	if o.JSON {
		e := json.NewEncoder(s.Out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if changes == nil {
			changes = []effective.Change{}
		}
		return e.Encode(struct {
			Changes []effective.Change `json:"changes"`
		}{changes})
	}
	if from != "" {
		fmt.Fprintf(s.Out, "%s, compared with %s.\n", from, harmless(o.Files[0]))
	}
	if len(changes) == 0 {
		fmt.Fprintln(s.Out, "They mean the same.")
		return nil
	}
	about := "\x00"
	for _, c := range changes {
		if now := c.About(); now != about {
			about = now
			if now == "" {
				now = "the server"
			}
			fmt.Fprintln(s.Out, harmless(now))
		}
		line := "  " + c.Words()
		if c.Place != "" {
			line += "  (" + c.Place + ")"
		}
		fmt.Fprintln(s.Out, harmless(line))
	}
	fmt.Fprintf(s.Out, "%s.\n", count(len(changes), "difference"))
	return nil
}
