package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// TraceOptions are the options of trace.
type TraceOptions struct {
	Config ConfigOptions
	// ID is of a message, a login or a session; "" where Last or Follow is set.
	ID string
	// Last is how many of the newest records are shown.
	Last int
	// Follow shows records as they are added.
	Follow bool
	// Filter says which of them.
	Filter trace.Filter
	// JSON prints for programs.
	JSON bool
}

func newTraceCommand(s Streams) *cobra.Command {
	var o TraceOptions
	cmd := &cobra.Command{
		Use:        "trace [ID]",
		Short:      "Explain what was decided about a message, and why",
		SuggestFor: []string{"log", "logs", "traces", "explain", "why"},
		Long: `Show what each handler said about a message, a login or a refused session, in how
long, why, and which line of the configuration the handler stands in. The id of a
message is in the reply to its client, in its Received field and in the log. That
of a session, which is in the log, shows all of its messages and logins.

Without an id the newest are shown. --from, --to, --user, --ip and --outcome look
for those that match all of them, among the newest ` + strconv.Itoa(trace.MaxScan) + `; the texts may be
parts, and letter case does not count.

` + exitCodes,
		Example: `  mox-like trace 1m87prhthzt40n3m8x
  mox-like trace --last 100 --json
  mox-like trace --to alice@example.org --outcome reject
  mox-like trace --from @example.net --ip 192.0.2.0/24
  mox-like trace --follow
  mox-like trace --last 3 --follow --user bob@example.org`,
		Args:              atMostOne("id"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.ID = args[0]
			}
			if !cmd.Flags().Changed("last") && (o.ID != "" || o.Follow) {
				o.Last = 0
			}
			return runTrace(cmd.Context(), &o, s)
		},
	}
	o.Config.add(cmd)
	flags := cmd.Flags()
	flags.VarP(newNumber(&o.Last, 20, 1, control.MaxTraces), "last", "n", "show the newest `N`")
	flags.BoolVarP(&o.Follow, "follow", "f", false, "show new ones as they come, until interrupted")
	flags.StringVar(&o.Filter.From, "from", "", "only what has this `TEXT` in the reverse-path; '<>' is the null reverse-path")
	flags.StringVar(&o.Filter.To, "to", "", "only what has this `TEXT` in a recipient, accepted or refused")
	flags.StringVar(&o.Filter.User, "user", "", "only what has this `TEXT` in the name of who logged in, or tried to")
	flags.Func("ip", "only clients in this `NETWORK`, or of this address", o.readIP)
	flags.StringVar(&o.Filter.Outcome, "outcome", "", "only what ended in this `ACTION`: "+strings.Join(outcomes(), ", "))
	flags.BoolVar(&o.JSON, "json", false, "print one JSON object a line")
	_ = cmd.RegisterFlagCompletionFunc("outcome", cobra.FixedCompletions(outcomes(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// outcomes are the words of --outcome.
func outcomes() []string {
	var list []string
	for a := mail.ActionAccept; a <= mail.ActionReject; a++ {
		list = append(list, a.String())
	}
	return list
}

// readIP reads a network, or an address alone.
func (o *TraceOptions) readIP(text string) error {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return errors.New("write an address, as 192.0.2.1, or a network, as 192.0.2.0/24")
		}
		network = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
	}
	o.Filter.IP = network
	return nil
}

// check refuses combinations that make no sense.
func (o *TraceOptions) check() error {
	switch {
	case o.ID != "" && (o.Last > 0 || o.Follow || o.Filter != trace.Filter{}):
		return badUsage("an id stands alone, without --last, --follow and the flags that search")
	case o.Filter.Outcome != "" && !slices.Contains(outcomes(), o.Filter.Outcome):
		return badUsage("--outcome is one of %s, not %q", strings.Join(outcomes(), ", "), o.Filter.Outcome)
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
	list, err := o.stored(ctx, ops, s)
	if err != nil {
		return err
	}
	for _, record := range list {
		if err := show(record); err != nil {
			return err
		}
	}
	if !o.Follow {
		return nil
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return ops.FollowTraces(ctx, func(r *trace.Record) error {
		if !o.Filter.Matches(r) {
			return nil
		}
		return show(r)
	})
}

// stored gives the records that are there already.
func (o *TraceOptions) stored(ctx context.Context, ops control.Traces, s Streams) ([]*trace.Record, error) {
	if o.ID != "" {
		list, err := ops.Trace(ctx, o.ID)
		if errors.Is(err, control.ErrNotFound) {
			return nil, fmt.Errorf("no trace has the id %q: it is mistyped, or too old, see 'mox-like modules block.trace'", o.ID)
		}
		return list, err
	}
	if o.Last == 0 {
		return nil, nil
	}
	list, err := ops.FindTraces(ctx, o.Filter, o.Last)
	if err == nil && len(list) == 0 && o.Filter != (trace.Filter{}) {
		fmt.Fprintf(s.Err, "mox-like: none of the newest %d traces matches\n", trace.MaxScan)
	}
	return list, err
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
