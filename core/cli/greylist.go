package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
)

// GreylistOptions are the options of the commands of greylist.
type GreylistOptions struct {
	Config ConfigOptions
	// Filter says which entries are shown.
	Filter control.TripletFilter
	// Last bounds how many are shown.
	Last int
	// Reason says why somebody is allowed.
	Reason string
	// JSON prints for programs.
	JSON bool
}

func newGreylistCommand(s Streams) *cobra.Command {
	var o GreylistOptions
	cmd := &cobra.Command{
		Use:   "greylist",
		Short: "Show who is greylisted, and let them through",
		Long: `Work on the greylist, whether the server runs or not: show who waits, let a message
through before its time, and name those that are never made to wait.

` + exitCodes,
		Example: `  mox-like greylist list --state greylisted
  mox-like greylist release 42
  mox-like greylist allow example.org --reason "sends login codes"`,
		SuggestFor: []string{"graylist", "greylisting", "greylists"},
		Args:       onlyCommands,
		RunE:       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.Config.add(cmd)
	cmd.AddCommand(newGreylistListCommand(&o, s), newGreylistReleaseCommand(&o, s), newGreylistAllowCommand(&o, s),
		newGreylistDisallowCommand(&o, s), newGreylistAllowedCommand(&o, s))
	return cmd
}

func newGreylistListCommand(o *GreylistOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List who is greylisted and who has passed",
		Long: `List the entries of the greylist: the id for 'greylist release', the state, from when
on a message passes or until when the entry is kept, and the client, the sender and
the recipient. The flags choose entries that match all of them.`,
		Example: `  mox-like greylist list --state greylisted --recipient alice@example.org
  mox-like greylist list --json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runGreylistList(cmd.Context(), o, s) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Filter.State, "state", "", "only entries in this `STATE`: greylisted, passed, expired")
	flags.StringVar(&o.Filter.Client, "client", "", "only this `NETWORK`, address or authenticated domain")
	flags.StringVar(&o.Filter.Sender, "sender", "", "only this reverse-path, as the list has it")
	flags.StringVar(&o.Filter.Recipient, "recipient", "", "only this recipient, or this domain")
	flags.VarP(newNumber(&o.Last, 0, 0, 1_000_000), "last", "n", "show `N` entries; 0 means all")
	addJSON(cmd, &o.JSON)
	return cmd
}

func runGreylistList(ctx context.Context, o *GreylistOptions, s Streams) error {
	states := []string{"", "greylisted", "passed", "expired"}
	if !slices.Contains(states, o.Filter.State) {
		return badUsage("--state is one of %s, not %q", strings.Join(states[1:], ", "), o.Filter.State)
	}
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		t := newTable(s.Out, o.JSON)
		list := func(p control.Page) ([]control.Triplet, string, error) { return ops.Triplets(ctx, o.Filter, p) }
		return errors.Join(pages(o.Last, list, t.triplet), t.end())
	})
}

func (t *table) triplet(e control.Triplet) error {
	when := "until " + moment(e.Expires)
	if e.State == "greylisted" {
		when = "from " + moment(e.Retry)
	}
	sender := e.Sender
	if sender == "" {
		sender = "<>"
	}
	return t.row(e, strconv.FormatInt(e.ID, 10), e.State, when, e.Client, sender, e.Recipient, count(e.Attempts, "attempt"))
}

func newGreylistReleaseCommand(o *GreylistOptions, s Streams) *cobra.Command {
	return &cobra.Command{
		Use:     "release ID",
		Short:   "Let an entry pass at once",
		Long:    "Let an entry of 'greylist list' pass from now on: the client's next attempt goes through.",
		Example: `  mox-like greylist release 42`,
		Args:    one("id of an entry", "42"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return badUsage("%q is not the id of an entry: 'mox-like greylist list' shows them", args[0])
			}
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				if err := ops.ReleaseTriplet(ctx, id); err != nil {
					return orList(err, "greylist list")
				}
				fmt.Fprintln(s.Out, "It passes at the client's next attempt.")
				return nil
			})
		},
	}
}

// orList says which command shows what there is, where something was not found.
func orList(err error, command string) error {
	if errors.Is(err, control.ErrNotFound) {
		return fmt.Errorf("%w; 'mox-like %s' shows those that there are", err, command)
	}
	return err
}

const allowedSubjects = "an address, a network, a client's authenticated domain, or a mail address or domain of senders"

func newGreylistAllowCommand(o *GreylistOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "allow SUBJECT",
		Short:   "Never greylist a client or a sender",
		Long:    "Never greylist a client or a sender: " + allowedSubjects + ".",
		Example: `  mox-like greylist allow 192.0.2.0/24 --reason "our other server"`,
		Args:    one("client or sender", "example.org"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				if err := ops.AllowGreylist(ctx, control.Allowed{Subject: args[0], Reason: o.Reason, Created: time.Now()}); err != nil {
					return err
				}
				fmt.Fprintf(s.Out, "%s is never greylisted.\n", harmless(args[0]))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&o.Reason, "reason", "", "say why, in `WORDS` for those who look it up")
	return cmd
}

func newGreylistDisallowCommand(o *GreylistOptions, s Streams) *cobra.Command {
	return &cobra.Command{
		Use:     "disallow SUBJECT",
		Short:   "Undo 'greylist allow'",
		Long:    "Greylist a client or a sender again that was allowed.",
		Example: `  mox-like greylist disallow 192.0.2.0/24`,
		Args:    one("client or sender", "example.org"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				return orList(ops.DisallowGreylist(ctx, args[0]), "greylist allowed")
			})
		},
	}
}

func newGreylistAllowedCommand(o *GreylistOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "allowed",
		Short:   "List who is never greylisted",
		Long:    "List the clients and senders that 'greylist allow' has named, with the reasons.",
		Example: `  mox-like greylist allowed`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				t := newTable(s.Out, o.JSON)
				list := func(p control.Page) ([]control.Allowed, string, error) { return ops.GreylistAllowed(ctx, p) }
				show := func(a control.Allowed) error { return t.row(a, a.Subject, "since "+moment(a.Created), a.Reason) }
				return errors.Join(pages(0, list, show), t.end())
			})
		},
	}
	addJSON(cmd, &o.JSON)
	return cmd
}
