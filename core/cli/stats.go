package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// StatsOptions are the options of stats.
type StatsOptions struct {
	Config ConfigOptions
	// Query says what is counted.
	Query trace.StatsQuery
	// JSON prints for programs.
	JSON bool
}

func newStatsCommand(s Streams) *cobra.Command {
	var o StatsOptions
	since, until := new(instant), new(instant)
	_ = since.Set("7d")
	cmd := &cobra.Command{
		Use:        "stats",
		Short:      "Count what the handlers said, and what monitored ones would have done",
		SuggestFor: []string{"statistics", "monitor", "report", "counts", "histogram"},
		Long: `Count what each handler said: how often it was asked, how often not since its when
was false or since it rested after errors, its verdicts, its errors, and how long its
calls took. With --handler also what it would have done where it has mode = "monitor":
how many messages, of how many senders and addresses, what became of them all the
same, and the newest of them as examples, which 'mox-like trace ID' explains.

It is counted from the traces, so that nothing is known of what these do not reach
back to; see 'mox-like modules block.trace'. At most the newest ` + strconv.Itoa(trace.MaxStats) + ` traces of
the time are looked at, and it says so where there are older ones.

` + exitCodes,
		Example: `  mox-like stats
  mox-like stats --handler greylist --since 7d
  mox-like stats --domain example.org --since 2026-11-01 --until 2026-11-08
  mox-like stats --handler spf --examples 50 --json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Query.Since, o.Query.Until = since.at, until.at
			if o.Query.Handler != "" && !cmd.Flags().Changed("examples") {
				o.Query.Examples = 5
			}
			return runStats(cmd.Context(), &o, s)
		},
	}
	o.Config.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.Query.Handler, "handler", "", "only the handler of this `NAME`, and more about it")
	flags.StringVar(&o.Query.Listener, "listener", "", "only what came in by the listener of this `NAME`")
	flags.StringVar(&o.Query.Domain, "domain", "", "only what is to this `DOMAIN`, or of its users")
	flags.Var(since, "since", "only what began at this `TIME` or later: 2h or 7d ago, a date, or a date and time")
	flags.Var(until, "until", "only what began before this `TIME`")
	flags.Var(newNumber(&o.Query.Examples, 0, 0, trace.MaxExamples), "examples", "show the newest `N` of each handler that it did not let pass; 5 with --handler")
	addJSON(cmd, &o.JSON)
	return cmd
}

func runStats(ctx context.Context, o *StatsOptions, s Streams) error {
	if since, until := o.Query.Since, o.Query.Until; !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return badUsage("--since is not before --until: nothing can match")
	}
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		stats, err := ops.HandlerStats(ctx, o.Query)
		if err != nil {
			return err
		}
		if o.JSON {
			return json.NewEncoder(s.Out).Encode(stats)
		}
		if o.Query.Handler != "" && len(stats.Handlers) == 0 {
			return fmt.Errorf("no handler %q was asked in the %s of that time: it is mistyped, or nothing came by; 'mox-like stats' lists those that were", o.Query.Handler, count(stats.Records, "trace"))
		}
		p := &statsPrinter{color: color(s.Out)}
		if o.Query.Handler != "" {
			p.one(stats, &stats.Handlers[0])
		} else {
			p.all(stats)
		}
		_, err = p.b.WriteTo(s.Out)
		return err
	})
}

// statsPrinter prints statistics for people. What comes from strangers is made
// harmless.
type statsPrinter struct {
	b     bytes.Buffer
	color bool
	// zone is the time zone; nil means the machine's.
	zone *time.Location
}

// period says what was counted.
func (p *statsPrinter) period(stats *trace.Stats) string {
	damaged := ""
	if stats.Damaged > 0 {
		damaged = "; " + count(stats.Damaged, "trace") + " could not be read"
	}
	if stats.Records == 0 {
		return "no traces" + damaged
	}
	zone := p.zone
	if zone == nil {
		zone = time.Local
	}
	text := fmt.Sprintf("%s, from %s to %s", count(stats.Records, "trace"), stats.Oldest.In(zone).Format(time.DateTime), stats.Newest.In(zone).Format(time.DateTime))
	if stats.Cut {
		text += fmt.Sprintf("; only the newest %d traces of that time were looked at, and there are older ones", trace.MaxStats)
	}
	return text + damaged
}

// all prints a line a handler, and the examples of each if there are any.
func (p *statsPrinter) all(stats *trace.Stats) {
	fmt.Fprintf(&p.b, "Counted from %s.\n", p.period(stats))
	if len(stats.Handlers) == 0 {
		return
	}
	p.b.WriteByte('\n')
	t := newTable(&p.b, false)
	_ = t.row(nil, "HANDLER", "ASKED", "SKIPPED", "RESTED", "ERRORS", "CONTINUE", "ACCEPT", "QUARANTINE", "DISCARD", "DEFER", "REJECT", "MONITORED", "P50", "P95")
	for i := range stats.Handlers {
		h := &stats.Handlers[i]
		cells := []string{h.Handler, strconv.Itoa(h.Asked), strconv.Itoa(h.Skipped), strconv.Itoa(h.Resting), strconv.Itoa(h.Errors)}
		for action := mail.ActionContinue; action <= mail.ActionReject; action++ {
			cells = append(cells, strconv.Itoa(h.Verdicts[action.String()]))
		}
		cells = append(cells, strconv.Itoa(h.Monitored), microsecondsText(h.P50), microsecondsText(h.P95))
		_ = t.row(nil, cells...)
	}
	_ = t.end() // to a buffer
	for i := range stats.Handlers {
		if h := &stats.Handlers[i]; len(h.Examples) > 0 {
			fmt.Fprintf(&p.b, "\n%s\n", harmless(h.Handler))
			p.examples(h)
		}
	}
}

// one prints all that is known of a handler.
func (p *statsPrinter) one(stats *trace.Stats, h *trace.HandlerStats) {
	fmt.Fprintf(&p.b, "%s at %s, counted from %s.\n\n", harmless(h.Handler), harmless(strings.Join(h.Listeners, ", ")), p.period(stats))
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&p.b, "  %-9s  %s\n", name, fmt.Sprintf(format, args...))
	}
	line("asked", "%s, skipped %s since when was false", times(h.Asked), times(h.Skipped))
	var verdicts []string
	for action := mail.ActionContinue; action <= mail.ActionReject; action++ {
		if n := h.Verdicts[action.String()]; n > 0 {
			verdicts = append(verdicts, fmt.Sprintf("%s %d", action, n))
		}
	}
	if len(verdicts) > 0 {
		line("verdicts", "%s", strings.Join(verdicts, ", "))
	}
	line("errors", "%d without a verdict, and %s not asked since it had failed before", h.Errors, times(h.Resting))
	line("duration", "%s at most for half of the calls, %s at most for 95 of 100", microsecondsText(h.P50), microsecondsText(h.P95))
	if h.Monitored > 0 {
		p.monitored(h, line)
	}
	if len(h.Examples) > 0 {
		fmt.Fprintf(&p.b, "\n  newest that it did not let pass\n")
		p.examples(h)
	}
}

// monitored prints what a handler would have done.
func (p *statsPrinter) monitored(h *trace.HandlerStats, line func(name, format string, args ...any)) {
	if len(h.Would) == 0 {
		line("monitored", "%s; it would have let everything pass", count(h.Monitored, "verdict"))
		return
	}
	line("monitored", "%s; acted on, it would have", count(h.Monitored, "verdict"))
	for _, w := range h.Would {
		line("", "%s %s: %s of %s from %s", p.painted(w.Action), times(w.Verdicts), count(w.Records, "trace"), atMostDistinct(w.Senders, "sender"), atMostDistinct(w.Addresses, "client"))
		line("", "  of these, all the same, accepted %d, refused %d, kept out of the inbox or discarded %d", w.Accepted, w.Refused, w.Other)
	}
}

// painted gives a verb for what would have been done.
func (p *statsPrinter) painted(action string) string {
	verbs := map[string]string{"accept": "accepted", "quarantine": "quarantined", "discard": "discarded", "defer": "deferred", "reject": "rejected"}
	t := tracePrinter{color: p.color}
	return t.paint(actionColor(action), verbs[action])
}

// examples prints the examples of a handler.
func (p *statsPrinter) examples(h *trace.HandlerStats) {
	t := tracePrinter{color: p.color, zone: p.zone}
	for _, e := range h.Examples {
		from := e.RemoteIP
		if from == "" {
			from = "a unix socket"
		}
		verdict := e.Action
		if e.Monitored {
			verdict += " (monitored)"
		}
		fmt.Fprintf(&p.b, "  %s  %s  <%s> to <%s>  from %s  %s, and the outcome was %s\n    %s\n", e.Time.In(t.timeZone()).Format(time.DateTime),
			t.paint(bold, harmless(e.ID)), harmless(e.From), harmless(e.To), harmless(from),
			t.paint(actionColor(e.Action), verdict), harmless(e.Outcome), harmless(e.Reason))
	}
}

// microsecondsText gives a duration of a handler.
func microsecondsText(n int64) string { return shortDuration(time.Duration(n) * time.Microsecond) }

// times says how often.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

// atMostDistinct says how many, of what is counted up to a bound.
func atMostDistinct(n int, what string) string {
	text := count(n, what)
	if n >= trace.MaxDistinct {
		text += " or more"
	}
	return text
}
