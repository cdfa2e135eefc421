package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
)

// AppPasswordOptions are the options of user app-password.
type AppPasswordOptions struct {
	*UserOptions
	// Name says which program the password is for.
	Name string
	// Scopes are the protocols that it is good for.
	Scopes []string
	// For is how long it is good; the zero span means for good.
	For span
}

func newAppPasswordCommand(user *UserOptions, s Streams) *cobra.Command {
	o := &AppPasswordOptions{UserOptions: user}
	cmd := &cobra.Command{
		Use:   "app-password",
		Short: "Give each program of a user a password of its own",
		Long: `Give each program of a user a password of its own: it is long and random, good for
the protocols that it is made for, and can be revoked alone. With a second factor it
is the way in for programs, which cannot ask for a code.`,
		Example: `  mox-like user app-password add alice@example.org --name phone --scope imap --scope smtp
  mox-like user app-password list alice@example.org
  mox-like user app-password revoke alice@example.org 3f9k2m7q`,
		SuggestFor: []string{"app-passwords", "apppassword", "token", "tokens"},
		Args:       onlyCommands,
		RunE:       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAppPasswordAddCommand(o, s), newAppPasswordListCommand(o, s), newAppPasswordRevokeCommand(o, s))
	return cmd
}

func newAppPasswordAddCommand(o *AppPasswordOptions, s Streams) *cobra.Command {
	cmd := userCommand(o.UserOptions, &cobra.Command{
		Use:        "add ADDRESS",
		SuggestFor: []string{"new", "create"},
		Short:      "Make an app password",
		Long:       "Make an app password and show it this once.",
		Example:    `  mox-like user app-password add alice@example.org --name laptop --for 365d`,
	}, func(ctx context.Context) error { return runAppPasswordAdd(ctx, o, s) })
	flags := cmd.Flags()
	flags.StringVar(&o.Name, "name", "", "say which program it is for, by a `NAME` of your own")
	flags.StringSliceVar(&o.Scopes, "scope", []string{"imap", "smtp"}, "what it is good for: `imap`, smtp; may be repeated")
	flags.Var(&o.For, "for", "end it after this `TIME`, such as 365d")
	_ = cmd.MarkFlagRequired("name")
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions([]string{"imap", "smtp"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runAppPasswordAdd(ctx context.Context, o *AppPasswordOptions, s Streams) error {
	if err := o.check(); err != nil {
		return err
	}
	want := control.AppPassword{Account: o.Address, Name: o.Name, Scopes: o.Scopes, Expires: o.For.from(time.Now())}
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		secret, p, err := ops.AddAppPassword(ctx, want)
		if err != nil {
			return missing(err)
		}
		// The password alone goes to the output, so that a script can take it from there.
		fmt.Fprintln(s.Out, secret.Reveal())
		fmt.Fprintf(s.Err, "It is good for %s %s, and not shown again. Its id is %s.\n", strings.Join(p.Scopes, " and "), until(p.Expires), p.ID)
		return nil
	})
}

func newAppPasswordListCommand(o *AppPasswordOptions, s Streams) *cobra.Command {
	cmd := userCommand(o.UserOptions, &cobra.Command{
		Use:     "list ADDRESS",
		Short:   "List the app passwords of an account",
		Long:    "List the app passwords of an account: the id, the name, what it is good for and until when, and when and from where it was last used.",
		Example: `  mox-like user app-password list alice@example.org`,
	}, func(ctx context.Context) error {
		if err := o.check(); err != nil {
			return err
		}
		return o.Config.operate(ctx, s, func(ops control.Operations) error {
			list, err := ops.AppPasswords(ctx, o.Address)
			if err != nil {
				return missing(err)
			}
			t := newTable(s.Out, o.JSON)
			for _, p := range list {
				used := "used " + moment(p.LastUsed)
				if p.LastFrom.IsValid() {
					used += " from " + p.LastFrom.String()
				}
				if err := t.row(p, p.ID, p.Name, strings.Join(p.Scopes, ","), until(p.Expires), used); err != nil {
					return err
				}
			}
			return t.end()
		})
	})
	addJSON(cmd, &o.JSON)
	return cmd
}

func newAppPasswordRevokeCommand(o *AppPasswordOptions, s Streams) *cobra.Command {
	return &cobra.Command{
		Use:        "revoke ADDRESS ID",
		SuggestFor: []string{"remove", "delete", "rm"},
		Short:      "End an app password",
		Long:       "End an app password. Sessions that it has opened go on until they end.",
		Example:    `  mox-like user app-password revoke alice@example.org 3f9k2m7q`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return badUsage("name the address and the id: %s alice@example.org 3f9k2m7q", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: o.completeAddress,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				if err := ops.RevokeAppPassword(ctx, args[0], args[1]); err != nil {
					return orList(err, "user app-password list "+args[0])
				}
				fmt.Fprintf(s.Out, "App password %s is not good any more.\n", harmless(args[1]))
				return nil
			})
		},
	}
}

func newUserLocksCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "locks",
		Short: "List the accounts that are closed to unknown networks",
		Long: `List the accounts that are closed, after many failed logins, to networks from which
their owners have not logged in lately.`,
		Example: `  mox-like user locks`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				t := newTable(s.Out, o.JSON)
				list := func(p control.Page) ([]control.Lock, string, error) { return ops.Locks(ctx, p) }
				show := func(l control.Lock) error {
					return t.row(l, l.Account, until(l.Expires), l.Reason, l.Evidence)
				}
				return errors.Join(pages(0, list, show), t.end())
			})
		},
	}
	addJSON(cmd, &o.JSON)
	return cmd
}

func newUserUnlockCommand(o *UserOptions, s Streams) *cobra.Command {
	return userCommand(o, &cobra.Command{
		Use:     "unlock ADDRESS",
		Short:   "Open an account to unknown networks again",
		Long:    "Open an account that was closed to unknown networks after many failed logins.",
		Example: `  mox-like user unlock alice@example.org`,
	}, func(ctx context.Context) error {
		return o.Config.operate(ctx, s, func(ops control.Operations) error {
			if err := ops.Unlock(ctx, o.Address); err != nil {
				return orList(err, "user locks")
			}
			fmt.Fprintf(s.Out, "%s is open to all networks, and its failed logins are forgotten.\n", harmless(o.Address))
			return nil
		})
	})
}
