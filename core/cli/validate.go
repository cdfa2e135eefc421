package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
)

// ValidateOptions are the options of validate.
type ValidateOptions struct {
	Config ConfigOptions
	// Files are the configurations, each a whole one; none means the default.
	Files []string
	// Format is text or json.
	Format string
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
every module's own opinion of its settings. All mistakes are told at once, with
their places. Nothing is opened, written or asked over the network. A file that
cannot be read does not keep the others from being checked.

Exit status:
  0  no errors; there may be warnings
  1  errors
  2  it could not be done; the message says why
  3  warnings, and --strict is given`,
		Example: `  mox-like validate
  mox-like validate --strict /etc/mox-like/mox-like.hcl
  mox-like validate --format json mox-like.hcl`,
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
	cmd.Flags().StringVar(&o.Format, "format", "text", "print in a `FORMAT`: text for people, or json for programs")
	cmd.Flags().BoolVar(&o.Strict, "strict", false, "exit with 3 when there are warnings")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runValidate(o *ValidateOptions, s Streams) error {
	if o.Format != "text" && o.Format != "json" {
		return badUsage("--format is text or json, not %q", o.Format)
	}
	if len(o.Files) > 0 && o.Config.File != "" {
		return badUsage("name the files either by --config or alone")
	}
	options, files, err := o.options()
	if err != nil {
		return err
	}
	var all config.Diagnostics
	var unreadable []error
	sources := make(map[string][]byte)
	for _, options.ConfigFile = range files {
		if err := readable(options.ConfigFile); err != nil {
			unreadable = append(unreadable, err)
			continue
		}
		ds, texts := core.Validate(options)
		all.Append(ds)
		maps.Copy(sources, texts)
	}
	if o.Format == "json" {
		if err := printJSON(s.Out, all); err != nil {
			return err
		}
	} else {
		config.Print(s.Out, all, sources, config.PrintOptions{Color: color(s.Out)})
		if len(all) > 0 || len(unreadable) == 0 {
			fmt.Fprintln(s.Out, verdict(all))
		}
	}
	if err := errors.Join(unreadable...); err != nil {
		return err
	}
	return validity(all, o.Strict)
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

// diagnosticJSON is a diagnostic for programs. Its form is stable.
type diagnosticJSON struct {
	Severity string        `json:"severity"`
	Code     string        `json:"code"`
	Summary  string        `json:"summary"`
	Detail   string        `json:"detail,omitempty"`
	Range    *rangeJSON    `json:"range,omitempty"`
	Related  []relatedJSON `json:"related,omitempty"`
}

type relatedJSON struct {
	Message string     `json:"message"`
	Range   *rangeJSON `json:"range,omitempty"`
}

// rangeJSON is a place; lines and columns count from 1, bytes from 0.
type rangeJSON struct {
	Filename string  `json:"filename"`
	Start    posJSON `json:"start"`
	End      posJSON `json:"end"`
}

type posJSON struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// printJSON prints one object with all diagnostics and their number.
func printJSON(w io.Writer, ds config.Diagnostics) error {
	list := make([]diagnosticJSON, 0, len(ds))
	for _, d := range ds {
		one := diagnosticJSON{Severity: d.Severity.String(), Code: d.Code, Summary: d.Summary, Detail: d.Detail, Range: newRangeJSON(d.Range)}
		for _, r := range d.Related {
			one.Related = append(one.Related, relatedJSON{Message: r.Message, Range: newRangeJSON(r.Range)})
		}
		list = append(list, one)
	}
	errorCount, warnings := ds.Count()
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		Errors      int              `json:"errors"`
		Warnings    int              `json:"warnings"`
		Diagnostics []diagnosticJSON `json:"diagnostics"`
	}{errorCount, warnings, list})
}

func newRangeJSON(r hcl.Range) *rangeJSON {
	if r.Filename == "" {
		return nil
	}
	return &rangeJSON{Filename: r.Filename, Start: posJSON(r.Start), End: posJSON(r.End)}
}
