package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

// UserOptions are the options of the commands of user.
type UserOptions struct {
	Config  ConfigOptions
	Address string
	// account is Address in normal form, once it is checked.
	account mail.Address
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
		Short: "Work on accounts, their passwords and second factors",
		Long: `Work on the accounts of this server, whether it runs or not. An account is named
by an address, such as alice@example.org, and gets the mail to it.

` + exitCodes,
		Example: `  mox-like user add alice@example.org
  mox-like user list`,
		SuggestFor: []string{"users", "account", "accounts"},
		Args:       onlyCommands,
		RunE:       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.Config.add(cmd)
	cmd.AddCommand(newUserAddCommand(&o, s), newUserPasswdCommand(&o, s), newUserRemoveCommand(&o, s), newUserListCommand(&o, s),
		newUserTOTPCommand(&o, s), newAppPasswordCommand(&o, s), newUserLocksCommand(&o, s), newUserUnlockCommand(&o, s))
	return cmd
}

// userCommand makes a command that takes an address.
func userCommand(o *UserOptions, cmd *cobra.Command, run func(context.Context) error) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return badUsage("name the address: %s alice@example.org", cmd.CommandPath())
		case len(args) > 1 && cmd.Flag(passwordFlag) != nil:
			return badUsage("%s takes one address; %s", words(cmd), noPassword)
		}
		return atMostOne("address")(cmd, args)
	}
	cmd.ValidArgsFunction = o.completeAddress
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Address = args[0]
		return run(cmd.Context())
	}
	return cmd
}

func newUserAddCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := userCommand(o, &cobra.Command{
		Use:        "add ADDRESS",
		SuggestFor: []string{"adduser", "useradd", "create", "new"},
		Short:      "Add an account",
		Long:       "Add an account. Its password is asked for twice, and never shown.",
		Example: `  mox-like user add alice@example.org
  mox-like user add --password-stdin alice@example.org < password.txt`,
	}, func(ctx context.Context) error { return runUserAdd(ctx, o, s) })
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	o.addPassword(cmd)
	return cmd
}

func newUserPasswdCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := userCommand(o, &cobra.Command{
		Use:        "passwd ADDRESS",
		SuggestFor: []string{"password", "setpassword"},
		Short:      "Change an account's password",
		Long:       "Change an account's password. It is asked for twice, and never shown.",
		Example: `  mox-like user passwd alice@example.org
  mox-like user passwd --password-stdin alice@example.org < password.txt`,
	}, func(ctx context.Context) error { return runUserPasswd(ctx, o, s) })
	o.addPassword(cmd)
	return cmd
}

const (
	passwordFlag = "password-stdin"
	noPassword   = "a password is not taken as an argument, where others could see it: it is asked for, or read from the input with --" + passwordFlag
)

func (o *UserOptions) addPassword(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.PasswordStdin, passwordFlag, false, "read the password from the first line of the input")
	refuseFlags(cmd, noPassword, "password", "p")
}

// completeTimeout bounds how long a shell is kept waiting for addresses.
const completeTimeout = 2 * time.Second

// completeAddress gives the accounts to a shell. It does not make a data
// directory that is not there.
func (o *UserOptions) completeAddress(cmd *cobra.Command, args []string, _ string) (names []string, directive cobra.ShellCompDirective) {
	directive = cobra.ShellCompDirectiveNoFileComp
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	quiet := Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}
	_, dir, err := o.Config.dataDir(quiet)
	if err != nil || len(args) > 0 {
		return nil, directive
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, directive
	}
	ops, err := o.Config.connect(ctx, quiet)
	if err != nil {
		return nil, directive
	}
	list, err := ops.Users(ctx)
	if errors.Join(err, ops.Close()) != nil {
		return nil, directive
	}
	for _, a := range list {
		names = append(names, a.Address)
	}
	return names, directive
}

func newUserRemoveCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := userCommand(o, &cobra.Command{
		Use:        "remove ADDRESS",
		SuggestFor: []string{"delete", "del", "rm", "deluser", "userdel"},
		Short:      "Remove an account and all its mail",
		Long:       "Remove an account and all its mail. There is no way back.",
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
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return badUsage("user list takes no address: it lists all accounts")
			}
			return nil
		},
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
	a, err := mail.ParseAddress(o.Address)
	if err != nil {
		return fmt.Errorf("%q: %w", o.Address, err)
	}
	o.account = a.Fold()
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
	fmt.Fprintf(s.Out, "%s can log in now.\n", harmless(o.account.String()))
	domains, err := ops.Domains(ctx)
	if err != nil {
		return err
	}
	warnUnreached(s, domains, o.account)
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
	if err := o.check(); err != nil {
		return err
	}
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
	if err := ops.RemoveUser(ctx, o.Address); err != nil {
		return missing(err)
	}
	domains, err := ops.Domains(ctx)
	if err != nil {
		return err
	}
	warnLeftovers(s, domains, o.account)
	return nil
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
