package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/trace"
)

// TraceOptions are the options of trace.
type TraceOptions struct {
	Config ConfigOptions
	// ID is of a message or session; "" where Last or Follow is set.
	ID string
	// Last is how many of the newest records are shown.
	Last int
	// Follow shows records as they are added.
	Follow bool
	// JSON prints for programs.
	JSON bool
}

func newTraceCommand(s Streams) *cobra.Command {
	var o TraceOptions
	cmd := &cobra.Command{
		Use:   "trace {ID | --last N | --follow}",
		Short: "Explain what was decided about a message, and why",
		Long: `Show what each handler said about a message, a login or a refused session, why,
in how long, and which line of the configuration the handler stands in. The id of
a message is in the reply to its client, in its Received field and in the log.

` + exitCodes,
		Example: `  mox-like trace --last 20
  mox-like trace --follow
  mox-like trace --last 100 --json
  mox-like trace --last 3 --follow`,
		Args:              arguments(cobra.MaximumNArgs(1)),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.ID = args[0]
			}
			return runTrace(cmd.Context(), &o, s)
		},
	}
	o.Config.add(cmd)
	cmd.Flags().IntVarP(&o.Last, "last", "n", 0, "show the newest `N`")
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "show new ones as they come, until interrupted")
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print one JSON object a line")
	return cmd
}

// check refuses combinations that make no sense.
func (o *TraceOptions) check() error {
	switch {
	case o.Last < 0:
		return usageError{fmt.Errorf("--last is at least 1, not %d", o.Last)}
	case o.ID == "" && o.Last == 0 && !o.Follow:
		return usageError{errors.New("name the id of a message or session, or give --last N or --follow")}
	case o.ID != "" && (o.Last > 0 || o.Follow):
		return usageError{errors.New("an id stands alone, without --last and --follow")}
	}
	return nil
}

func runTrace(ctx context.Context, o *TraceOptions, s Streams) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	ops, err := o.Config.connect(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ops.Close()) }()
	show := o.printer(s)
	if o.ID != "" {
		record, err := ops.Trace(ctx, o.ID)
		if errors.Is(err, control.ErrNotFound) {
			return fmt.Errorf("no trace has the id %q: it is mistyped, or older than the trace block's keep", o.ID)
		}
		if err != nil {
			return err
		}
		return show(record)
	}
	if o.Last > 0 {
		list, err := ops.LastTraces(ctx, o.Last)
		if err != nil {
			return err
		}
		for _, record := range list {
			if err := show(record); err != nil {
				return err
			}
		}
	}
	if !o.Follow {
		return nil
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return ops.FollowTraces(ctx, show)
}

// printer gives the function that prints a record.
func (o *TraceOptions) printer(s Streams) func(*trace.Record) error {
	if o.JSON {
		e := json.NewEncoder(s.Out)
		return func(r *trace.Record) error { return e.Encode(r) }
	}
	p := &tracePrinter{w: s.Out, color: color(s.Out)}
	return p.print
}
