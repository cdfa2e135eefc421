package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/lint"
)

// ValidateOptions are the options of validate.
type ValidateOptions struct {
	Config ConfigOptions
	// Files are the configurations, each a whole one; none means the default.
	Files []string
	// Format is text, or one of lint.Formats.
	Format string
	// Offline looks at the text alone.
	Offline bool
	// Explain prints pages about codes instead: Files are the codes.
	Explain bool
	// Strict makes warnings count.
	Strict bool
}

func newValidateCommand(s Streams) *cobra.Command {
	var o ValidateOptions
	cmd := &cobra.Command{
		Use:        "validate [FILE...]",
		Short:      "Check a configuration",
		SuggestFor: []string{"test", "lint", "verify"},
		Long: `Check configurations as thoroughly as 'run' would: syntax, names, types, and
every module's own opinion of its settings. Beyond that it warns of what runs and
should not: an order that wastes or weakens, open doors, limits that contradict each
other. All mistakes are told at once, with their places. A file that cannot be read
does not keep the others from being checked.

Nothing is written, and nothing is asked over the network. Keys, certificates and
other files that the configuration names are looked at, and so are their
permissions. With --offline it is the text alone that counts: neither such files,
nor secrets from the environment, nor the users of this machine.

A comment silences a warning at one place, and says why:

  # validate:ignore CODE: REASON

Behind something it is for what begins on its line; on a line of its own for the
attribute or the whole block below.

Exit status:
  0  no errors; there may be warnings
  1  errors
  2  it could not be done; the message says why
  3  warnings, and --strict is given`,
		Example: `  mox-like validate
  mox-like validate --strict /etc/mox-like/mox-like.hcl
  mox-like validate --offline --format sarif mox-like.hcl > mox-like.sarif
  mox-like validate --explain chain/no-target`,
		Args: arguments(cobra.ArbitraryArgs),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"hcl"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(_ *cobra.Command, args []string) error {
			o.Files = args
			return runValidate(&o, s)
		},
	}
	o.Config.add(cmd)
	cmd.Flags().StringVar(&o.Format, "format", "text", "print in a `FORMAT`: text for people, or json, sarif, github or junit for programs")
	cmd.Flags().BoolVar(&o.Offline, "offline", false, "look at the text alone, not at other files, secrets and this machine")
	cmd.Flags().BoolVar(&o.Explain, "explain", false, "explain the codes of diagnostics that are named; without any, list them")
	cmd.Flags().BoolVar(&o.Strict, "strict", false, "exit with 3 when there are warnings")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// formats are the values of --format.
func formats() []string { return append([]string{"text"}, lint.Formats...) }

func runValidate(o *ValidateOptions, s Streams) error {
	if !slices.Contains(formats(), o.Format) {
		return badUsage("--format is one of %s, not %q", strings.Join(formats(), ", "), o.Format)
	}
	catalogue, err := lint.NewCatalogue(core.DefaultRegistry)
	if err != nil {
		return err
	}
	if o.Explain {
		return explain(s.Out, o.Files, catalogue)
	}
	if len(o.Files) > 0 && o.Config.File != "" {
		return badUsage("name the files either by --config or alone")
	}
	options, files, err := o.options()
	if err != nil {
		return err
	}
	options.Offline = o.Offline
	var all config.Diagnostics
	var reports []*lint.Report
	var unreadable []error
	for _, options.ConfigFile = range files {
		if err := readable(options.ConfigFile); err != nil {
			unreadable = append(unreadable, err)
			if o.Format != "text" {
				reports = append(reports, lint.Unreadable(options.ConfigFile, err))
			}
			continue
		}
		r := lint.Check(options, catalogue)
		reports = append(reports, r)
		all.Append(r.Diagnostics)
	}
	if o.Format == "text" {
		printReports(s, reports, all, len(unreadable) == 0)
	} else if err := lint.Write(s.Out, o.Format, version(), reports, catalogue); err != nil {
		return err
	}
	if err := errors.Join(unreadable...); err != nil {
		return err
	}
	return validity(all, o.Strict)
}

// printReports prints for people. verdict says whether there is one even if nothing
// was found.
func printReports(s Streams, reports []*lint.Report, all config.Diagnostics, sure bool) {
	silenced := 0
	for _, r := range reports {
		config.Print(s.Out, r.Diagnostics, r.Sources, config.PrintOptions{Color: color(s.Out)})
		silenced += len(r.Silenced)
	}
	if len(all) > 0 || sure {
		line := verdict(all)
		if silenced > 0 {
			line += fmt.Sprintf(" Comments in it silence %s.", count(silenced, "warning"))
		}
		fmt.Fprintln(s.Out, line)
	}
	var said []string
	for _, r := range reports {
		if !slices.Contains(said, r.NotChecked) {
			said = append(said, r.NotChecked)
			fmt.Fprintln(s.Out, r.NotChecked)
		}
	}
}

// explain prints the pages of codes, or the list of all.
func explain(w io.Writer, codes []string, catalogue *lint.Catalogue) error {
	if len(codes) == 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, p := range catalogue.Pages() {
			fmt.Fprintf(t, "%s\t%s\t%s\n", p.Code, p.Severity, p.Summary)
		}
		return t.Flush()
	}
	for i, code := range codes {
		p, ok := catalogue.Page(code)
		if !ok {
			if near := catalogue.Suggest(code); near != "" {
				return badUsage("no page explains %q. Did you mean %q?", code, near)
			}
			return badUsage("no page explains %q: --explain alone lists the codes", code)
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := p.Print(w); err != nil {
			return err
		}
	}
	return nil
}

// options gives those of the server, and the configurations to check.
func (o *ValidateOptions) options() (core.Options, []string, error) {
	if len(o.Files) == 0 {
		options, err := o.Config.server()
		return options, []string{options.ConfigFile}, err
	}
	variables, err := o.Config.variables()
	return core.Options{Config: config.Options{Variables: variables}}, o.Files, err
}

// validity gives the exit status.
func validity(ds config.Diagnostics, strict bool) error {
	errorCount, warnings := ds.Count()
	switch {
	case errorCount > 0:
		return errInvalid
	case warnings > 0 && strict:
		return &exitError{code: exitStrict}
	}
	return nil
}

// verdict is the last line: what was found in all.
func verdict(ds config.Diagnostics) string {
	errorCount, warnings := ds.Count()
	switch {
	case errorCount+warnings == 0:
		return "The configuration is valid."
	case errorCount == 0:
		return fmt.Sprintf("The configuration is valid, with %s.", count(warnings, "warning"))
	case warnings == 0:
		return fmt.Sprintf("The configuration has %s.", count(errorCount, "error"))
	}
	return fmt.Sprintf("The configuration has %s and %s.", count(errorCount, "error"), count(warnings, "warning"))
}

// count puts a number before a noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
