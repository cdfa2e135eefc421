package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

// UserOptions are the options of the commands of user.
type UserOptions struct {
	Config  ConfigOptions
	Address string
	// PasswordStdin reads the password from the first line of the input instead of
	// asking for it.
	PasswordStdin bool
	// Yes removes without asking.
	Yes bool
	// JSON prints for programs.
	JSON bool
}

func newUserCommand(s Streams) *cobra.Command {
	var o UserOptions
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Add, change, remove and list accounts",
		Long: `Work on the accounts of this server, whether it runs or not. An account is named
by an address, such as alice@example.org, and gets the mail to it.

` + exitCodes,
		Example: `  mox-like user add alice@example.org
  mox-like user list`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.Config.add(cmd)
	cmd.AddCommand(newUserAddCommand(&o, s), newUserPasswdCommand(&o, s), newUserRemoveCommand(&o, s), newUserListCommand(&o, s))
	return cmd
}

// userCommand makes a command that takes an address.
func userCommand(o *UserOptions, cmd *cobra.Command, run func(context.Context) error) *cobra.Command {
	cmd.Args = arguments(cobra.ExactArgs(1))
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Address = args[0]
		return run(cmd.Context())
	}
	return cmd
}

func newUserAddCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := userCommand(o, &cobra.Command{
		Use:   "add ADDRESS",
		Short: "Add an account",
		Long:  "Add an account. Its password is asked for twice, and never shown.",
		Example: `  mox-like user add alice@example.org
  mox-like user add --password-stdin alice@example.org < password.txt`,
	}, func(ctx context.Context) error { return runUserAdd(ctx, o, s) })
	o.addPassword(cmd)
	return cmd
}

func newUserPasswdCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := userCommand(o, &cobra.Command{
		Use:   "passwd ADDRESS",
		Short: "Change an account's password",
		Long:  "Change an account's password. It is asked for twice, and never shown.",
		Example: `  mox-like user passwd alice@example.org
  mox-like user passwd --password-stdin alice@example.org < password.txt`,
	}, func(ctx context.Context) error { return runUserPasswd(ctx, o, s) })
	o.addPassword(cmd)
	return cmd
}

func (o *UserOptions) addPassword(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.PasswordStdin, "password-stdin", false, "read the password from the first line of the input")
}

func newUserRemoveCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := userCommand(o, &cobra.Command{
		Use:   "remove ADDRESS",
		Short: "Remove an account and all its mail",
		Long:  "Remove an account and all its mail. There is no way back.",
		Example: `  mox-like user remove alice@example.org
  mox-like user remove --yes alice@example.org`,
	}, func(ctx context.Context) error { return runUserRemove(ctx, o, s) })
	cmd.Flags().BoolVarP(&o.Yes, "yes", "y", false, "do not ask")
	return cmd
}

func newUserListCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the accounts",
		Long:  "List the accounts, an address a line, with the time at which each was added.",
		Example: `  mox-like user list
  mox-like user list --json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runUserList(cmd.Context(), o, s) },
	}
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print one JSON object a line")
	return cmd
}

// check finds what would be in vain to ask a password for.
func (o *UserOptions) check() error {
	if _, err := o.Config.server(); err != nil {
		return err
	}
	if _, err := mail.ParseAddress(o.Address); err != nil {
		return fmt.Errorf("%q: %w", o.Address, err)
	}
	return nil
}

func runUserAdd(ctx context.Context, o *UserOptions, s Streams) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	password, err := o.password(s)
	if err != nil {
		return err
	}
	ops, err := o.Config.connect(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ops.Close()) }()
	if err := ops.AddUser(ctx, o.Address, password); err != nil {
		if errors.Is(err, control.ErrExists) {
			return fmt.Errorf("%w; change its password by 'mox-like user passwd %s'", err, o.Address)
		}
		return err
	}
	return warnForeign(ctx, ops, o.Address, s)
}

// warnForeign says when an account's domain does not live here: no mail will
// come to it.
func warnForeign(ctx context.Context, ops control.Operations, address string, s Streams) error {
	domains, err := ops.Domains(ctx)
	if err != nil {
		return err
	}
	a, err := mail.ParseAddress(address)
	if err != nil {
		return err
	}
	if domain := a.Fold().Domain; !slices.Contains(domains, domain) {
		fmt.Fprintf(s.Err, "mox-like: warning: the configuration has no domain %q: the account gets no mail until it has\n", domain)
	}
	return nil
}

func runUserPasswd(ctx context.Context, o *UserOptions, s Streams) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	password, err := o.password(s)
	if err != nil {
		return err
	}
	ops, err := o.Config.connect(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ops.Close()) }()
	return missing(ops.SetPassword(ctx, o.Address, password))
}

func runUserRemove(ctx context.Context, o *UserOptions, s Streams) (err error) {
	if !o.Yes {
		if err := confirm(s, fmt.Sprintf("Remove the account %q and all its mail?", o.Address)); err != nil {
			return err
		}
	}
	ops, err := o.Config.connect(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ops.Close()) }()
	return missing(ops.RemoveUser(ctx, o.Address))
}

// missing says what to do about an account that is not there.
func missing(err error) error {
	if errors.Is(err, control.ErrNotFound) {
		return fmt.Errorf("%w; 'mox-like user list' shows those that there are", err)
	}
	return err
}

func runUserList(ctx context.Context, o *UserOptions, s Streams) (err error) {
	ops, err := o.Config.connect(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ops.Close()) }()
	list, err := ops.Users(ctx)
	if err != nil {
		return err
	}
	width := 0
	for _, a := range list {
		width = max(width, len(a.Address))
	}
	e := json.NewEncoder(s.Out)
	for _, a := range list {
		if !o.JSON {
			fmt.Fprintf(s.Out, "%-*s  %s\n", width, harmless(a.Address), a.Created.Local().Format(time.DateTime))
			continue
		}
		err = e.Encode(struct {
			Address string    `json:"address"`
			Created time.Time `json:"created"`
		}{a.Address, a.Created.UTC()})
		if err != nil {
			return fmt.Errorf("print account: %w", err)
		}
	}
	return nil
}
