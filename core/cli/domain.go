package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/tuning"
)

// DomainOptions are the options of the commands of domain.
type DomainOptions struct {
	Config ConfigOptions
	// Set shows only what the database has.
	Set bool
	// Note says why something is changed.
	Note string
	// Last bounds how many changes are shown.
	Last int
	// JSON prints for programs.
	JSON bool
}

func newDomainCommand(s Streams) *cobra.Command {
	var o DomainOptions
	cmd := &cobra.Command{
		Use:   "domain",
		Short: "Change the settings of a domain while the server runs",
		Long: `Work on the settings of domains, whether the server runs or not. What is set here is
kept in the database and goes over the file; the next message runs with it. It is
checked like the file: what is wrong changes nothing. The domain '*' stands for all
domains that have no setting of their own.

A setting is named HANDLER.ATTRIBUTE: the handler by its label in the chain if it
has one. Beside a handler's own attributes there are 'enabled', which leaves the
handler out of the chain, and 'mode', 'on_error', 'on_timeout', 'timeout' and
'when'.

` + exitCodes,
		Example: `  mox-like domain set example.org greylist.delay 10m
  mox-like domain set example.org clamav.mode monitor
  mox-like domain set '*' spf.fail tag
  mox-like domain get example.org greylist
  mox-like domain history example.org
  mox-like domain rollback example.org 7`,
		SuggestFor: []string{"domains", "setting", "settings"},
		Args:       onlyCommands,
		RunE:       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.Config.add(cmd)
	cmd.AddCommand(newDomainSetCommand(&o, s), newDomainUnsetCommand(&o, s), newDomainGetCommand(&o, s),
		newDomainListCommand(&o, s), newDomainHistoryCommand(&o, s), newDomainRollbackCommand(&o, s))
	return cmd
}

func newDomainSetCommand(o *DomainOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set DOMAIN SETTING VALUE [SETTING VALUE]...",
		Short: "Set attributes of handlers for a domain",
		Long: `Set attributes of handlers for a domain, all of them or none. A value is written as
in the file; the quotes around a word may be left out.`,
		Example: `  mox-like domain set example.org greylist.delay 10m greylist.pass_after 3
  mox-like domain set example.org greylist.except '["192.0.2.0/24"]'
  mox-like domain set example.org greylist.enabled false`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 3 || len(args)%2 == 0 {
				return badUsage("name the domain, and a value for each setting: %s example.org greylist.delay 10m", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			var changes []tuning.Change
			for i := 1; i < len(args); i += 2 {
				c, err := parseSetting(args[i])
				if err != nil {
					return err
				}
				value := config.ValueText(args[i+1])
				c.Value = &value
				changes = append(changes, c)
			}
			return runDomainChange(cmd.Context(), o, s, args[0], changes)
		},
	}
	o.addNote(cmd)
	return cmd
}

// addNote gives a command that changes something the flag that says why.
func (o *DomainOptions) addNote(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.Note, "note", "", "say why, in `WORDS` for the history")
}

func newDomainUnsetCommand(o *DomainOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:        "unset DOMAIN SETTING...",
		SuggestFor: []string{"reset", "remove", "delete", "rm"},
		Short:      "Take settings away, so that the file's hold again",
		Long:       "Take settings of a domain away that 'domain set' has made, all of them or none: those of '*' or of the file hold again.",
		Example:    `  mox-like domain unset example.org greylist.delay`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return badUsage("name the domain and the settings: %s example.org greylist.delay", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			var changes []tuning.Change
			for _, name := range args[1:] {
				c, err := parseSetting(name)
				if err != nil {
					return err
				}
				changes = append(changes, c)
			}
			return runDomainChange(cmd.Context(), o, s, args[0], changes)
		},
	}
	o.addNote(cmd)
	return cmd
}

// parseSetting reads the name of a setting.
func parseSetting(name string) (tuning.Change, error) {
	handler, attribute, ok := cutLast(name, ".")
	if !ok || handler == "" || attribute == "" {
		return tuning.Change{}, badUsage("%q is not the name of a setting: write HANDLER.ATTRIBUTE, such as greylist.delay", name)
	}
	return tuning.Change{Key: tuning.Key{Handler: handler, Attribute: attribute}}, nil
}

// cutLast cuts a text at the last separator.
func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

func runDomainChange(ctx context.Context, o *DomainOptions, s Streams, domain string, changes []tuning.Change) error {
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		err := printReport(s, func() (*control.Report, error) { return ops.ChangeDomain(ctx, domain, changes, o.Note) })
		if err == nil {
			fmt.Fprintf(s.Out, "%s of %s: done.\n", count(len(changes), "setting"), harmless(domain))
		}
		return orList(err, "domain list")
	})
}

// printReport prints what was found when something was changed.
func printReport(s Streams, change func() (*control.Report, error)) error {
	report, err := change()
	if report != nil {
		config.Print(s.Err, report.Diagnostics, report.Sources, config.PrintOptions{Color: color(s.Err)})
	}
	if errors.Is(err, control.ErrRefused) && report != nil {
		return errInvalid
	}
	return err
}

func newDomainGetCommand(o *DomainOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "get DOMAIN [HANDLER[.ATTRIBUTE]]",
		Aliases: []string{"show"},
		Short:   "Show the settings that hold for a domain, and where they come from",
		Long: `Show the settings of the handlers as they hold for a domain, and where each value
comes from: the handler's default, the file, the settings of '*' or those of the
domain in the database.`,
		Example: `  mox-like domain get example.org
  mox-like domain get example.org greylist.delay
  mox-like domain get example.org --set`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return badUsage("name the domain, and at most one handler or setting: %s example.org greylist", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			filter := ""
			if len(args) == 2 {
				filter = args[1]
			}
			return runDomainGet(cmd.Context(), o, s, args[0], filter)
		},
	}
	cmd.Flags().BoolVar(&o.Set, "set", false, "show only what is set in the database")
	addJSON(cmd, &o.JSON)
	return cmd
}

func runDomainGet(ctx context.Context, o *DomainOptions, s Streams, domain, filter string) error {
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		if o.Set {
			return printSet(ctx, o, s, ops, domain, filter)
		}
		list, err := ops.EffectiveSettings(ctx, domain, "")
		if err != nil {
			return orList(err, "domain list")
		}
		t, shown := newTable(s.Out, o.JSON), 0
		for _, e := range list {
			if !matches(e.Key, filter) {
				continue
			}
			shown++
			if err := t.row(e, e.Listener, e.Handler+"."+e.Attribute, e.Value, origin(e)); err != nil {
				return err
			}
		}
		if shown == 0 && filter != "" {
			return fmt.Errorf("no handler of %s has a setting %q; 'mox-like domain get %s' shows those that there are", domain, filter, domain)
		}
		return t.end()
	})
}

// printSet prints what the database has for a domain, also what is not in force.
func printSet(ctx context.Context, o *DomainOptions, s Streams, ops control.Operations, domain, filter string) error {
	list, err := ops.DomainSettings(ctx, domain)
	if err != nil {
		return orList(err, "domain list")
	}
	t := newTable(s.Out, o.JSON)
	for _, e := range list {
		if !matches(e.Key, filter) {
			continue
		}
		state := "set at " + moment(e.Changed) + " by " + e.Actor
		if !e.InForce {
			state = "not in force: " + e.Problem
		}
		if err := t.row(e, e.Handler+"."+e.Attribute, e.Value, state); err != nil {
			return err
		}
	}
	return t.end()
}

// matches tells whether a setting is meant by a handler's name, by its own, or by
// nothing at all.
func matches(k tuning.Key, filter string) bool {
	return filter == "" || filter == k.Handler || filter == k.Handler+"."+k.Attribute
}

// origin says in words where a value comes from.
func origin(e tuning.Effective) string {
	if e.Place == "" {
		return string(e.Source)
	}
	return string(e.Source) + " (" + e.Place + ")"
}

func newDomainListCommand(o *DomainOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the domains that live here, or those with settings of their own",
		Long: `List the domains of the configuration, in the order of the file. With --set, list
those that have settings in the database.`,
		Example: `  mox-like domain list --set`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				if o.Set {
					list := func(p control.Page) ([]string, string, error) { return ops.TunedDomains(ctx, p) }
					return pages(0, list, func(domain string) error {
						_, err := fmt.Fprintln(s.Out, harmless(domain))
						return err
					})
				}
				list, err := ops.Domains(ctx)
				if err != nil {
					return err
				}
				t := newTable(s.Out, o.JSON)
				for _, d := range list {
					if err := t.row(d, d.Name); err != nil {
						return err
					}
				}
				return t.end()
			})
		},
	}
	cmd.Flags().BoolVar(&o.Set, "set", false, "list the domains with settings in the database")
	addJSON(cmd, &o.JSON)
	return cmd
}

func newDomainHistoryCommand(o *DomainOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history DOMAIN",
		Short: "Show who changed which settings, and when",
		Long: `Show the changes of a domain's settings, the newest first: the number for 'domain
rollback', when, what, the value before and after, and by whom.`,
		Example:           `  mox-like domain history example.org`,
		Args:              one("domain", "example.org"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDomainHistory(cmd.Context(), o, s, args[0])
		},
	}
	cmd.Flags().VarP(newNumber(&o.Last, 50, 0, 1_000_000), "last", "n", "show `N` changes; 0 means all")
	addJSON(cmd, &o.JSON)
	return cmd
}

func runDomainHistory(ctx context.Context, o *DomainOptions, s Streams, domain string) error {
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		t := newTable(s.Out, o.JSON)
		list := func(p control.Page) ([]tuning.Revision, string, error) { return ops.DomainHistory(ctx, domain, p) }
		show := func(r tuning.Revision) error {
			return t.row(r, strconv.FormatInt(r.ID, 10), moment(r.Time), r.Handler+"."+r.Attribute,
				orUnset(r.Before)+" -> "+orUnset(r.After), r.Actor, r.Note)
		}
		return errors.Join(pages(o.Last, list, show), t.end())
	})
}

func orUnset(value *string) string {
	if value == nil {
		return "unset"
	}
	return *value
}

func newDomainRollbackCommand(o *DomainOptions, s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "rollback DOMAIN NUMBER",
		Short: "Bring back the settings of an earlier time",
		Long: `Make a domain's settings what they were right after the change of that number, which
'domain history' shows; 0 is before the first. It is a change of its own, and can be
rolled back.`,
		Example: `  mox-like domain rollback example.org 7`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return badUsage("name the domain and the number of a change: %s example.org 7", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil || n < 0 {
				return badUsage("%q is not the number of a change: 'mox-like domain history %s' shows them", args[1], args[0])
			}
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				err := printReport(s, func() (*control.Report, error) { return ops.RollbackDomain(ctx, args[0], n) })
				if err == nil {
					fmt.Fprintf(s.Out, "The settings of %s are those of change %d.\n", harmless(args[0]), n)
				}
				return orList(err, "domain history "+args[0])
			})
		},
	}
}
