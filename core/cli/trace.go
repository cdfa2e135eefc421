package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/check"
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
	// Settings says which settings of the handlers are shown: none, changed or all; ""
	// means changed for an ID, all of them as JSON, and none else.
	Settings string
	// JSON prints for programs.
	JSON bool
}

func newTraceCommand(s Streams) *cobra.Command {
	var o TraceOptions
	var since, until instant
	cmd := &cobra.Command{
		Use:        "trace [ID]",
		Short:      "Explain what was decided about a message, and why",
		SuggestFor: []string{"log", "logs", "traces", "explain", "why"},
		Long: `Show what each handler said about a message, a login or a refused session, in how
long, why, and which line of the configuration the handler stands in. The id of a
message is in the reply to its client, in its Received field and in the log. That
of a session, which is in the log, shows all of its messages and logins. Around the
id there may be what the client shows, as "(id 1m87prhthzt40n3m8x)" or a whole reply.

With an id the settings are shown too by which the handlers decided, as they were
then: all that were not the defaults, each with the line of the file where it stood,
or the domain in the database and when it was set there. --settings all shows the
defaults too. Not shown are secrets, settings that only the file can make, and the
defaults within nested blocks.

Without an id the newest are shown. The flags that search look for those that match
all of them; texts may be parts, and letter case does not count, but for the names
of handlers. They look at the newest ` + strconv.Itoa(trace.MaxScan) + ` traces, and with --since or
--until at the newest ` + strconv.Itoa(trace.MaxScan) + ` that began in that time, which is found at once
however long ago it is. What is older than the traces are kept for, or had to leave
for want of room, is not found; see 'mox-like modules block.trace'.

` + exitCodes,
		Example: `  mox-like trace 1m87prhthzt40n3m8x
  mox-like trace --last 100 --json
  mox-like trace --to alice@example.org --outcome reject
  mox-like trace --from @example.net --ip 192.0.2.0/24
  mox-like trace --message-id 20261125.1234@example.net
  mox-like trace --handler greylist --verdict defer --since 2h
  mox-like trace --verdict error --since 2026-11-24 --until 2026-11-25
  mox-like trace --follow
  mox-like trace --last 3 --follow --user bob@example.org`,
		Args:              atMostOne("id"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.ID = idIn(args[0])
			}
			if !cmd.Flags().Changed("last") && (o.ID != "" || o.Follow) {
				o.Last = 0
			}
			o.Filter.Since, o.Filter.Until = since.at, until.at
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
	flags.StringVar(&o.Filter.MessageID, "message-id", "", "only what has this `TEXT` in the Message-ID field")
	flags.StringVar(&o.Filter.Handler, "handler", "", "only where the handler of this `NAME` said --verdict, or without that anything but continue")
	flags.StringVar(&o.Filter.Verdict, "verdict", "", "only where --handler, or any handler, said this `WORD`: "+strings.Join(trace.Verdicts(), ", "))
	flags.Var(&since, "since", "only what began at this `TIME` or later: 2h or 7d ago, a date, or a date and time")
	flags.Var(&until, "until", "only what began before this `TIME`")
	flags.StringVar(&o.Settings, "settings", "", "show `WHICH` settings of the handlers: none, changed or all")
	flags.BoolVar(&o.JSON, "json", false, "print one JSON object a line")
	_ = cmd.RegisterFlagCompletionFunc("outcome", cobra.FixedCompletions(outcomes(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("verdict", cobra.FixedCompletions(trace.Verdicts(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("settings", cobra.FixedCompletions([]string{settingsNone, settingsChanged, settingsAll}, cobra.ShellCompDirectiveNoFileComp))
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
	case o.Filter.Verdict != "" && !slices.Contains(trace.Verdicts(), o.Filter.Verdict):
		return badUsage("--verdict is one of %s, not %q", strings.Join(trace.Verdicts(), ", "), o.Filter.Verdict)
	case !slices.Contains([]string{"", settingsNone, settingsChanged, settingsAll}, o.Settings):
		return badUsage("--settings is none, changed or all, not %q", o.Settings)
	case !o.Filter.Since.IsZero() && !o.Filter.Until.IsZero() && !o.Filter.Since.Before(o.Filter.Until):
		return badUsage("--since is not before --until: nothing can match")
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
	e := &explainer{ops: ops, mode: o.settings(), known: make(map[string][]mail.Setting)}
	printed := o.printer(s)
	show := func(r *trace.Record) error {
		r, err := e.explained(ctx, r)
		if err != nil {
			return err
		}
		return printed(r)
	}
	if err := o.stored(ctx, ops, s, show); err != nil || !o.Follow {
		return err
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

// idIn finds the id in what clients, logs and header fields show around it: "(id …)",
// "OK: kept as …", or the whole reply.
func idIn(text string) string {
	for _, before := range []string{"(id ", "kept as ", " id "} {
		if _, rest, ok := strings.Cut(text, before); ok {
			text = rest
			break
		}
	}
	if words := strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("()[]<>.,;:\"'", r) }); len(words) > 0 {
		return words[0]
	}
	return text
}

// stored shows the records that are there already, those of a session page by page.
func (o *TraceOptions) stored(ctx context.Context, ops control.Traces, s Streams, show func(*trace.Record) error) error {
	if o.ID == "" && o.Last == 0 {
		return nil
	}
	for after := ""; ; {
		found, err := o.page(ctx, ops, after)
		if err != nil {
			return err
		}
		for _, record := range found.Records {
			if err := show(record); err != nil {
				return err
			}
		}
		o.remark(s, found)
		if after = found.Next; after == "" {
			return nil
		}
	}
}

func (o *TraceOptions) page(ctx context.Context, ops control.Traces, after string) (*trace.Found, error) {
	if o.ID == "" {
		return ops.FindTraces(ctx, o.Filter, o.Last)
	}
	found, err := ops.Trace(ctx, o.ID, after)
	switch {
	case !errors.Is(err, control.ErrNotFound):
		return found, err
	case strings.HasPrefix(o.ID, check.IDPrefix):
		return nil, fmt.Errorf("no trace has the id %q: it is of a check, which leaves none; 'mox-like check' shows all at once", o.ID)
	default:
		return nil, fmt.Errorf("no trace has the id %q: it is mistyped, or too old, see 'mox-like modules block.trace'", o.ID)
	}
}

// remark says what is not among the records.
func (o *TraceOptions) remark(s Streams, found *trace.Found) {
	if o.ID == "" && len(found.Records) == 0 && o.Filter != (trace.Filter{}) {
		within := ""
		if !o.Filter.Since.IsZero() || !o.Filter.Until.IsZero() {
			within = " of that time"
		}
		fmt.Fprintf(s.Err, "mox-like: none of the newest %d traces%s matches\n", trace.MaxScan, within)
	}
	if found.Cut {
		fmt.Fprintf(s.Err, "mox-like: these are the newest %d of those that match; more would be too much at once: search with --since and --until\n", len(found.Records))
	}
	if found.Damaged > 0 {
		fmt.Fprintf(s.Err, "mox-like: %s cannot be read, since what is stored is damaged or of a newer build\n", count(found.Damaged, "trace"))
	}
}

// settings gives which settings are shown.
func (o *TraceOptions) settings() string {
	switch {
	case o.Settings != "":
		return o.Settings
	case o.ID == "":
		return settingsNone
	case o.JSON:
		return settingsAll
	default:
		return settingsChanged
	}
}

// printer gives the function that prints a record.
func (o *TraceOptions) printer(s Streams) func(*trace.Record) error {
	if o.JSON {
		e := newJSON(s.Out)
		return func(r *trace.Record) error { return e.Encode(r) }
	}
	p := &tracePrinter{w: s.Out, color: color(s.Out), explain: o.settings() != settingsNone}
	return p.print
}
