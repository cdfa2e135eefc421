package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
)

// QuarantineOptions are the options of the commands of quarantine.
type QuarantineOptions struct {
	Config ConfigOptions
	// Filter says which messages are shown, but for the time.
	Filter control.HeldFilter
	// Since is that time.
	Since instant
	// Last bounds how many are shown.
	Last int
	// User restricts a change to one account.
	User string
	// Scope and Sender say who is allowed, for whom.
	Scope, Sender string
	// Domain and All are the scopes of disallow beside User.
	Domain string
	All    bool
	// Raw writes a message as it is.
	Raw bool
	// JSON prints for programs.
	JSON bool
}

func newQuarantineCommand(s Streams) *cobra.Command {
	var o QuarantineOptions
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "Look at messages that are held back, release or delete them",
		Long: `Work on the messages that the handler quarantine holds, whether the server runs or
not: see who wrote what and why it is held, deliver it after all, allow its author, or
delete it. The id of a message is that of its trace.

` + exitCodes,
		Example: `  mox-like quarantine list --user alice@example.org
  mox-like quarantine show 1m87prhthzt40n3m8x
  mox-like quarantine release 1m87prhthzt40n3m8x
  mox-like quarantine allow 1m87prhthzt40n3m8x --scope domain`,
		SuggestFor: []string{"quarantined", "held", "hold", "junk", "spam"},
		Args:       onlyCommands,
		RunE:       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.Config.add(cmd)
	cmd.AddCommand(newQuarantineListCommand(&o, s), newQuarantineShowCommand(&o, s), newQuarantineReleaseCommand(&o, s),
		newQuarantineAllowCommand(&o, s), newQuarantineDeleteCommand(&o, s), newQuarantineAllowedCommand(&o, s), newQuarantineDisallowCommand(&o, s))
	return cmd
}

func newQuarantineListCommand(o *QuarantineOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the messages that are held, the newest first",
		Long: `List the messages that are held, the newest first: the id, when it came, the author,
the subject, who has quarantined it, and for whom it is held. The flags choose
messages that match all of them.`,
		Example: `  mox-like quarantine list --domain example.org --since 7d
  mox-like quarantine list --from newsletter --json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runQuarantineList(cmd.Context(), o, s) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Filter.User, "user", "", "only what is held for this `ACCOUNT`")
	flags.StringVar(&o.Filter.Domain, "domain", "", "only what is held for accounts of this `DOMAIN`")
	flags.StringVar(&o.Filter.From, "from", "", "only what has this `TEXT` in the author or the reverse-path")
	flags.Var(&o.Since, "since", "only what came since this `TIME`: a span such as 7d, or a date as 2026-11-03")
	flags.VarP(newNumber(&o.Last, 0, 0, 1_000_000), "last", "n", "show the newest `N`; 0 means all")
	addJSON(cmd, &o.JSON)
	return cmd
}

func runQuarantineList(ctx context.Context, o *QuarantineOptions, s Streams) error {
	if o.Filter.User != "" && o.Filter.Domain != "" {
		return badUsage("--user and --domain exclude each other")
	}
	o.Filter.Since = o.Since.at
	return o.Config.operate(ctx, s, func(ops control.Operations) error { return o.list(ctx, ops, s) })
}

func (o *QuarantineOptions) list(ctx context.Context, ops control.Quarantine, s Streams) error {
	t := newTable(s.Out, o.JSON)
	any := false
	list := func(p control.Page) ([]control.Held, string, error) { return ops.Held(ctx, o.Filter, p) }
	show := func(h control.Held) error {
		any = true
		return t.held(h)
	}
	err := errors.Join(pages(o.Last, list, show), t.end())
	if err == nil && !any {
		o.nothing(s, "Nothing is held that matches.")
	}
	return err
}

// nothing tells people that a list is empty.
func (o *QuarantineOptions) nothing(s Streams, text string) {
	if !o.JSON {
		fmt.Fprintln(s.Err, text)
	}
}

// Widths of columns with texts of strangers, in characters.
const (
	maxFromWidth    = 40
	maxSubjectWidth = 50
)

func (t *table) held(h control.Held) error {
	from := h.From
	if from == "" {
		from = "<" + h.ReversePath + ">"
	}
	return t.row(h, h.ID, moment(h.Received), shortened(from, maxFromWidth), shortened(h.Subject, maxSubjectWidth), h.Handler, heldFor(h))
}

// shortened cuts a text to a number of characters.
func shortened(text string, width int) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return text
}

// heldFor names the accounts.
func heldFor(h control.Held) string {
	names := make([]string, 0, len(h.For))
	for _, one := range h.For {
		names = append(names, one.Account)
	}
	text := strings.Join(names, ", ")
	if more := h.Accounts - len(h.For); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func newQuarantineShowCommand(o *QuarantineOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a held message, and why it is held",
		Long: `Show a held message: who quarantined it and why, the points that handlers gave, whom
it is for, when it is deleted, and its header section. What strangers wrote is made
harmless for the terminal. --raw writes the whole message as it is.`,
		Example: `  mox-like quarantine show 1m87prhthzt40n3m8x
  mox-like quarantine show 1m87prhthzt40n3m8x --raw > message.eml`,
		Args: one("id of a message", "1m87prhthzt40n3m8x"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if o.Raw && isTerminal(s.Out) {
				return badUsage("--raw would write what a stranger sent to the terminal: redirect it into a file")
			}
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				if o.Raw {
					return orList(writeRaw(ctx, ops, s.Out, args[0]), "quarantine list")
				}
				m, err := ops.HeldMessage(ctx, args[0])
				if err != nil {
					return orList(err, "quarantine list")
				}
				if o.JSON {
					return newJSON(s.Out).Encode(m)
				}
				return showHeld(s.Out, m)
			})
		},
	}
	cmd.Flags().BoolVar(&o.Raw, "raw", false, "write the whole message as it is")
	addJSON(cmd, &o.JSON)
	cmd.MarkFlagsMutuallyExclusive("raw", "json")
	return cmd
}

// writeRaw writes the whole message.
func writeRaw(ctx context.Context, ops control.Quarantine, w io.Writer, id string) (err error) {
	content, size, err := ops.HeldContent(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	n, err := io.Copy(w, content)
	if err == nil && n != size {
		err = fmt.Errorf("write message %s: %d bytes of %d came", harmless(id), n, size)
	}
	return err
}

// showHeld prints a message for people.
func showHeld(w io.Writer, m control.HeldMessage) error {
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(columns, "%s\t%s\n", name, strings.ReplaceAll(harmless(value), "\t", " "))
		}
	}
	line("id", m.ID)
	line("received", moment(m.Received)+" by "+m.Listener+clientOf(m.RemoteIP))
	line("expires", moment(m.Expires))
	line("held by", m.Handler)
	line("reason", m.Reason)
	for _, score := range m.Scores {
		line("points", fmt.Sprintf("%g by %s", score.Points, score.Handler))
	}
	line("from", m.From)
	line("author is", authorIs(m.Held))
	line("sender", "<"+m.ReversePath+">")
	line("subject", m.Subject)
	line("message-id", m.MessageID)
	line("size", config.Size(m.Size).String())
	for _, one := range m.For {
		text := one.Account
		if one.Recipient != one.Account {
			text += " by way of " + one.Recipient
		}
		line("for", text)
	}
	if more := m.Accounts - len(m.For); more > 0 {
		line("for", fmt.Sprintf("%d more", more))
	}
	if err := columns.Flush(); err != nil {
		return fmt.Errorf("show message: %w", err)
	}
	var b strings.Builder
	b.WriteString("\n")
	for field := range strings.SplitSeq(strings.TrimSuffix(m.Header, "\r\n"), "\n") {
		b.WriteString(harmless(strings.ReplaceAll(strings.TrimSuffix(field, "\r"), "\t", "    ")) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// clientOf names the client, if it has an address.
func clientOf(ip string) string {
	if ip == "" {
		return ""
	}
	return " from " + ip
}

// authorIs says whether the author is who he says.
func authorIs(h control.Held) string {
	switch {
	case h.Author == "":
		return "not one address"
	case h.Authenticated == "":
		return h.Author + ", which nothing shows to be true"
	default:
		return h.Author + ", as " + h.Authenticated + " shows"
	}
}

// each does something with several messages, one after the other, and goes on where
// one fails.
func (o *QuarantineOptions) each(ctx context.Context, s Streams, ids []string, do func(ops control.Operations, id string) error) error {
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		var errs []error
		for _, id := range ids {
			if err := do(ops, id); err != nil {
				errs = append(errs, orList(err, "quarantine list"))
			}
		}
		return errors.Join(errs...)
	})
}

// some wants one word or several.
func some(what, example string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return badUsage("name the %s, such as '%s %s'", what, cmd.CommandPath(), example)
		}
		return nil
	}
}

const anID = "1m87prhthzt40n3m8x"

func newQuarantineReleaseCommand(o *QuarantineOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release ID…",
		Short: "Deliver held messages after all",
		Long: `Deliver held messages into the INBOX of the accounts that they are held for. They are
not judged again, and what learns from spam is told that they were wanted.`,
		Example: `  mox-like quarantine release 1m87prhthzt40n3m8x
  mox-like quarantine release 1m87prhthzt40n3m8x --user alice@example.org`,
		Args: some("ids of messages", anID),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return o.each(ctx, s, args, func(ops control.Operations, id string) error {
				accounts, err := ops.ReleaseHeld(ctx, id, o.User)
				if err == nil {
					fmt.Fprintf(s.Out, "%s is in INBOX of %s.\n", harmless(id), shortList(accounts))
				}
				return err
			})
		},
	}
	addHeldUser(cmd, &o.User)
	return cmd
}

func addHeldUser(cmd *cobra.Command, user *string) {
	cmd.Flags().StringVar(user, "user", "", "only for this `ACCOUNT`, not for the others")
}

// shortList names the first of many.
func shortList(names []string) string {
	const shown = 5
	text := harmless(strings.Join(names[:min(len(names), shown)], ", "))
	if more := len(names) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func newQuarantineDeleteCommand(o *QuarantineOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "delete ID…",
		Short:   "Delete held messages",
		Long:    "Delete held messages for good, for all accounts that they are held for or for one.",
		Example: `  mox-like quarantine delete 1m87prhthzt40n3m8x`,
		Args:    some("ids of messages", anID),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return o.each(ctx, s, args, func(ops control.Operations, id string) error {
				accounts, err := ops.DeleteHeld(ctx, id, o.User)
				if err == nil {
					fmt.Fprintf(s.Out, "%s is deleted for %s.\n", harmless(id), shortList(accounts))
				}
				return err
			})
		},
	}
	addHeldUser(cmd, &o.User)
	return cmd
}
