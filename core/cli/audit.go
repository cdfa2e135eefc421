package cli

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
)

// AuditOptions are the options of audit.
type AuditOptions struct {
	Config ConfigOptions
	// Filter says which changes are shown.
	Filter control.ChangeFilter
	// Last bounds how many.
	Last int
	// JSON prints for programs.
	JSON bool
}

func newAuditCommand(s Streams) *cobra.Command {
	var o AuditOptions
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who changed what, and when",
		Long: `Show the changes that were made by commands and by the API, the newest first: who,
when, what, and as JSON also what was there before and after.

` + exitCodes,
		Example: `  mox-like audit
  mox-like audit --object alice@example.org --json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runAudit(cmd.Context(), &o, s) },
	}
	o.Config.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.Filter.Actor, "actor", "", "only changes by this `NAME`")
	flags.StringVar(&o.Filter.Operation, "operation", "", "only this `OPERATION`, such as add-user")
	flags.StringVar(&o.Filter.Object, "object", "", "only changes of this `OBJECT`, such as an address or a domain")
	flags.VarP(newNumber(&o.Last, 50, 0, 1_000_000), "last", "n", "show `N` changes; 0 means all")
	addJSON(cmd, &o.JSON)
	return cmd
}

func runAudit(ctx context.Context, o *AuditOptions, s Streams) error {
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		t := newTable(s.Out, o.JSON)
		list := func(p control.Page) ([]control.AuditEntry, string, error) { return ops.Audit(ctx, o.Filter, p) }
		show := func(e control.AuditEntry) error {
			who := e.Actor
			if e.Address != "" {
				who += " from " + e.Address
			}
			return t.row(e, strconv.FormatInt(e.ID, 10), moment(e.Time), e.Operation, e.Object, who)
		}
		return errors.Join(pages(o.Last, list, show), t.end())
	})
}
