package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

func newQuarantineAllowCommand(o *QuarantineOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "allow ID…",
		Short: "Deliver held messages, and hold their authors' next ones no more",
		Long: `Deliver held messages, and remember their authors: their next messages are not held
for these accounts, their domains, or everybody. That counts only where the author's
domain has shown that it stands behind a message, by DMARC, or without a record of
that by DKIM or SPF, and never for what the handlers of the setting keep have
quarantined, such as viruses.`,
		Example: `  mox-like quarantine allow 1m87prhthzt40n3m8x
  mox-like quarantine allow 1m87prhthzt40n3m8x --scope all --sender example.com`,
		Args: some("ids of messages", anID),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return o.each(ctx, s, args, func(ops control.Operations, id string) error {
				done, err := ops.AllowHeld(ctx, control.AllowAuthor{ID: id, User: o.User, Scope: o.Scope, Sender: o.Sender})
				if err != nil {
					return err
				}
				showAllowed(s.Out, id, done)
				return nil
			})
		},
	}
	flags := cmd.Flags()
	addHeldUser(cmd, &o.User)
	scopes := []string{control.ScopeUser, control.ScopeDomain, control.ScopeAll}
	flags.StringVar(&o.Scope, "scope", control.ScopeUser, "for `WHOM`: user, the accounts it is held for; domain, their domains; all, everybody")
	flags.StringVar(&o.Sender, "sender", "", "allow this `ADDRESS` or domain rather than the author of the message")
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions(scopes, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// showAllowed says what was done, and what it is good for.
func showAllowed(w io.Writer, id string, done control.AllowedHeld) {
	fmt.Fprintf(w, "%s is in INBOX of %s.\n", harmless(id), shortList(done.Accounts))
	for _, a := range done.Allowed {
		fmt.Fprintf(w, "%s is allowed for %s.\n", harmless(a.Sender), scopeText(a.Scope))
	}
	if done.Authenticated == "" {
		fmt.Fprintln(w, "But nothing shows that this message is from its author: the next ones like it are held again.")
	}
}

// scopeText says for whom an author is allowed.
func scopeText(scope string) string {
	if scope == control.ScopeAll {
		return "everybody"
	}
	return harmless(scope)
}

func newQuarantineAllowedCommand(o *QuarantineOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "allowed",
		Short:   "List whose messages are not held",
		Long:    "List the authors that 'quarantine allow' has named, for whom, and the command that takes each back.",
		Example: `  mox-like quarantine allowed`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error { return o.allowed(ctx, ops, s) })
		},
	}
	addJSON(cmd, &o.JSON)
	return cmd
}

func (o *QuarantineOptions) allowed(ctx context.Context, ops control.Quarantine, s Streams) error {
	t := newTable(s.Out, o.JSON)
	any := false
	list := func(p control.Page) ([]control.AllowedAuthor, string, error) { return ops.AllowedAuthors(ctx, p) }
	show := func(a control.AllowedAuthor) error {
		any = true
		return t.row(a, a.Sender, "for "+scopeText(a.Scope), "since "+moment(a.Created), disallowing(a))
	}
	err := errors.Join(pages(0, list, show), t.end())
	if err == nil && !any {
		o.nothing(s, "Nobody is allowed.")
	}
	return err
}

// disallowing is the command that takes one back.
func disallowing(a control.AllowedAuthor) string {
	flag := " --domain " + a.Scope
	switch {
	case a.Scope == control.ScopeAll:
		flag = " --all"
	case strings.Contains(a.Scope, "@"):
		flag = " --user " + a.Scope
	}
	return "mox-like quarantine disallow " + a.Sender + flag
}

func newQuarantineDisallowCommand(o *QuarantineOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "disallow SENDER",
		Short: "Undo 'quarantine allow'",
		Long: `Hold the messages of an author like those of others again, for whom he was allowed.
Without a flag that is for whomever he was allowed, if it was once.`,
		Example: `  mox-like quarantine disallow bob@example.net
  mox-like quarantine disallow bob@example.net --user alice@example.org
  mox-like quarantine disallow example.net --domain example.org
  mox-like quarantine disallow example.com --all`,
		Args: one("address or domain", "bob@example.net"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			scope := o.User + o.Domain
			if o.All {
				scope = control.ScopeAll
			}
			return o.Config.operate(ctx, s, func(ops control.Operations) (err error) {
				if scope == "" {
					if scope, err = onlyScope(ctx, ops, args[0]); err != nil {
						return err
					}
				}
				if err := ops.DisallowAuthor(ctx, scope, args[0]); err != nil {
					return orList(err, "quarantine allowed")
				}
				fmt.Fprintf(s.Out, "%s is no longer allowed for %s.\n", harmless(args[0]), scopeText(scope))
				return nil
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.User, "user", "", "for this `ACCOUNT`")
	flags.StringVar(&o.Domain, "domain", "", "for this `DOMAIN`")
	flags.BoolVar(&o.All, "all", false, "for everybody")
	cmd.MarkFlagsMutuallyExclusive("user", "domain", "all")
	return cmd
}

// maxEntries is how many of a sender's entries a message names.
const maxEntries = 10

// onlyScope finds for whom a sender is allowed, if it was once.
func onlyScope(ctx context.Context, ops control.Quarantine, sender string) (string, error) {
	if a, err := mail.ParseAddress(sender); err == nil && a.Domain != "" {
		sender = a.Fold().String()
	} else if domain, err := mail.ParseDomain(sender); err == nil {
		sender = domain
	}
	var found []control.AllowedAuthor
	list := func(p control.Page) ([]control.AllowedAuthor, string, error) { return ops.AllowedAuthors(ctx, p) }
	err := pages(0, list, func(a control.AllowedAuthor) error {
		if a.Sender == sender {
			found = append(found, a)
		}
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", orList(fmt.Errorf("disallow author: %s is not allowed for anybody: %w", harmless(sender), control.ErrNotFound), "quarantine allowed")
	case len(found) == 1:
		return found[0].Scope, nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s is allowed %d times; take back the one that is meant:", harmless(sender), len(found))
	for _, a := range found[:min(len(found), maxEntries)] {
		b.WriteString("\n  " + harmless(disallowing(a)))
	}
	if more := len(found) - maxEntries; more > 0 {
		fmt.Fprintf(&b, "\nand %d more, which 'mox-like quarantine allowed' shows", more)
	}
	return "", errors.New(b.String())
}
