package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/reference"
)

// ModulesOptions are the options of modules.
type ModulesOptions struct {
	// Name is of the module to explain; "" lists all.
	Name string
	// Format is text or markdown.
	Format string
}

func newModulesCommand(s Streams) *cobra.Command {
	var o ModulesOptions
	cmd := &cobra.Command{
		Use:   "modules [NAME]",
		Short: "List the modules of this build, or explain the settings of one",
		Long: `List the modules of this build, or explain the settings of one: what each is for,
what values it takes, and what holds where the file does not say.

Names may be short, as ratelimit, or whole, as handler.ratelimit. What the core
itself reads is explained as well: server, log, domain and the like.`,
		Example: `  mox-like modules
  mox-like modules ratelimit
  mox-like modules server`,
		Args: atMostOne("name"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			entries, err := allEntries()
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return entryNames(entries), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.Name = args[0]
			}
			return runModules(&o, s)
		},
	}
	cmd.Flags().StringVar(&o.Format, "format", "text", "print in a `FORMAT`: text for people, or markdown")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "markdown"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runModules(o *ModulesOptions, s Streams) error {
	entries, err := allEntries()
	if err != nil {
		return err
	}
	switch {
	case o.Format != "text" && o.Format != "markdown":
		return badUsage("--format is text or markdown, not %q", o.Format)
	case o.Name != "":
		if entries, err = findEntries(entries, o.Name); err != nil {
			return err
		}
	case o.Format == "text":
		return listEntries(s, entries)
	}
	if o.Format == "markdown" {
		return reference.PrintMarkdown(s.Out, entries)
	}
	for i, e := range entries {
		if i > 0 {
			fmt.Fprintln(s.Out)
		}
		if err := reference.PrintText(s.Out, e); err != nil {
			return err
		}
	}
	return nil
}

func allEntries() ([]reference.Entry, error) {
	comments, err := reference.Standard()
	if err != nil {
		return nil, err
	}
	return reference.Entries(core.DefaultRegistry, comments), nil
}

// listEntries prints a line for each module.
func listEntries(s Streams, entries []reference.Entry) error {
	width := 0
	for _, e := range entries {
		width = max(width, len(e.ID))
	}
	for _, e := range entries {
		if _, err := fmt.Fprintf(s.Out, "%-*s  %s\n", width, e.ID, e.Summary()); err != nil {
			return err
		}
	}
	return nil
}

// findEntries gives the entry of that ID, or all those of that name.
func findEntries(entries []reference.Entry, name string) ([]reference.Entry, error) {
	var found []reference.Entry
	for _, e := range entries {
		if e.ID == name {
			return []reference.Entry{e}, nil
		}
		if e.Name() == name {
			found = append(found, e)
		}
	}
	if found != nil {
		return found, nil
	}
	if near := config.Suggest(name, entryNames(entries)); near != "" {
		return nil, fmt.Errorf("this build has no module %q: did you mean %q?", name, near)
	}
	return nil, fmt.Errorf("this build has no module %q: 'mox-like modules' lists those that it has", name)
}

func entryNames(entries []reference.Entry) []string {
	var names []string
	for _, e := range entries {
		names = append(names, e.Name(), e.ID)
	}
	return names
}
