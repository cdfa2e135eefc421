package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/boombuler/barcode/qr"
	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

func newUserTOTPCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "totp",
		Short: "Give an account a second factor",
		Long: `Give an account a second factor: codes of six digits that an authenticator shows
(TOTP, RFC 6238). Programs for mail cannot ask for a code. They log in by app
passwords, see 'user app-password'; the account's own password is not good for them
any more.`,
		Example: `  mox-like user totp enrol alice@example.org
  mox-like user totp status alice@example.org`,
		SuggestFor: []string{"2fa", "mfa", "otp"},
		Args:       onlyCommands,
		RunE:       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTOTPEnrolCommand(o, s), newTOTPConfirmCommand(o, s), newTOTPStatusCommand(o, s),
		newTOTPRemoveCommand(o, s), newTOTPAppendCommand(o, s))
	return cmd
}

func newTOTPEnrolCommand(o *UserOptions, s Streams) *cobra.Command {
	return userCommand(o, &cobra.Command{
		Use:        "enrol ADDRESS",
		Aliases:    []string{"enroll"},
		SuggestFor: []string{"add", "enable", "setup"},
		Short:      "Give an account a secret, and confirm it by a first code",
		Long: `Give an account a secret: a QR code for an authenticator, the same as a text, and ten
recovery codes, each good once in place of a code. All of it is shown this once. It is in force
when a first code has shown that the authenticator has it: the code is asked for, or
read from the input where that is no terminal.`,
		Example: `  mox-like user totp enrol alice@example.org`,
	}, func(ctx context.Context) error { return runTOTPEnrol(ctx, o, s) })
}

func runTOTPEnrol(ctx context.Context, o *UserOptions, s Streams) error {
	if err := o.check(); err != nil {
		return err
	}
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		e, err := ops.EnrolTOTP(ctx, o.Address)
		switch {
		case errors.Is(err, control.ErrExists):
			return fmt.Errorf("%w: 'mox-like user totp remove %s'", err, o.Address)
		case err != nil:
			return missing(err)
		}
		if err := printEnrolment(s.Out, e); err != nil {
			return err
		}
		code, err := askCode(s)
		if err != nil {
			return fmt.Errorf("%w; the secret is not in force yet: 'mox-like user totp confirm %s' asks again", err, o.Address)
		}
		return confirmTOTP(ctx, o, s, ops, code)
	})
}

// printEnrolment shows what is shown once.
func printEnrolment(w io.Writer, e control.Enrolment) error {
	if err := printQR(w, e.URI.Reveal()); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nSecret  %s\nURI     %s\n\nRecovery codes, each good once in place of a code. Keep them where the authenticator is not:\n", e.Secret.Reveal(), e.URI.Reveal())
	for _, code := range e.RecoveryCodes {
		fmt.Fprintf(w, "  %s\n", code.Reveal())
	}
	fmt.Fprintln(w)
	return nil
}

// printQR draws a QR code, two of its rows on a line: light modules are drawn, and a
// margin of four. On a terminal the colours are said too, so that it is dark on
// light whatever those of the terminal are.
func printQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.L, qr.Auto)
	if err != nil {
		return fmt.Errorf("draw QR code: %w", err)
	}
	const margin = 4
	size := code.Bounds().Dx()
	light := func(x, y int) bool {
		if x < 0 || y < 0 || x >= size || y >= size {
			return true
		}
		r, _, _, _ := code.At(x, y).RGBA()
		return r != 0
	}
	begin, end := "", ""
	if color(w) {
		begin, end = "\x1b[38;5;231;48;5;16m", "\x1b[0m" // white on black
	}
	var b strings.Builder
	for y := -margin; y < size+margin; y += 2 {
		b.WriteString(begin)
		for x := -margin; x < size+margin; x++ {
			switch upper, lower := light(x, y), light(x, y+1); {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString(end + "\n")
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// askCode reads a code from the terminal or the input.
func askCode(s Streams) (mail.Secret, error) {
	if isTerminal(s.In) {
		fmt.Fprint(s.Err, "Code that the authenticator shows now: ")
	}
	line, err := readLine(s.In)
	if err != nil {
		return "", fmt.Errorf("read code: %w", err)
	}
	return mail.Secret(strings.TrimSpace(line)), nil
}

func confirmTOTP(ctx context.Context, o *UserOptions, s Streams, ops control.Operations, code mail.Secret) error {
	if err := ops.ConfirmTOTP(ctx, o.Address, code); err != nil {
		if errors.Is(err, control.ErrInvalid) {
			return fmt.Errorf("%w; 'mox-like user totp confirm %s' asks again", err, o.Address)
		}
		return missing(err)
	}
	fmt.Fprintf(s.Out, "%s has a second factor now. Give its programs app passwords by 'mox-like user app-password add %s --name NAME'.\n",
		harmless(o.account.String()), harmless(o.account.String()))
	return nil
}

func newTOTPConfirmCommand(o *UserOptions, s Streams) *cobra.Command {
	return userCommand(o, &cobra.Command{
		Use:     "confirm ADDRESS",
		Short:   "Put an account's new secret in force by a first code",
		Long:    "Put the secret in force that 'user totp enrol' has given and that no code has confirmed yet.",
		Example: `  mox-like user totp confirm alice@example.org`,
	}, func(ctx context.Context) error {
		if err := o.check(); err != nil {
			return err
		}
		code, err := askCode(s)
		if err != nil {
			return err
		}
		return o.Config.operate(ctx, s, func(ops control.Operations) error { return confirmTOTP(ctx, o, s, ops, code) })
	})
}

func newTOTPStatusCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := userCommand(o, &cobra.Command{
		Use:     "status ADDRESS",
		Short:   "Tell how an account stands with its second factor",
		Long:    "Tell whether an account has a second factor, since when, and how many recovery codes are left.",
		Example: `  mox-like user totp status alice@example.org`,
	}, func(ctx context.Context) error {
		if err := o.check(); err != nil {
			return err
		}
		return o.Config.operate(ctx, s, func(ops control.Operations) error {
			f, err := ops.SecondFactor(ctx, o.Address)
			if err != nil {
				return missing(err)
			}
			t := newTable(s.Out, o.JSON)
			cells := []string{f.Account, f.State}
			if f.State != "off" {
				cells = append(cells, "enrolled "+moment(f.Enrolled), "used "+moment(f.LastUsed), count(f.RecoveryCodes, "recovery code")+" left")
			}
			if f.AppendCode {
				cells = append(cells, "code behind the password")
			}
			return errors.Join(t.row(f, cells...), t.end())
		})
	})
	addJSON(cmd, &o.JSON)
	return cmd
}

func newTOTPRemoveCommand(o *UserOptions, s Streams) *cobra.Command {
	cmd := userCommand(o, &cobra.Command{
		Use:        "remove ADDRESS",
		SuggestFor: []string{"disable", "delete", "rm", "off"},
		Short:      "End an account's second factor",
		Long:       "End an account's second factor and forget its secret. The account's own password is good for programs again.",
		Example:    `  mox-like user totp remove --yes alice@example.org`,
	}, func(ctx context.Context) error {
		if err := o.check(); err != nil {
			return err
		}
		if !o.Yes {
			if err := confirm(s, fmt.Sprintf("End the second factor of %q?", o.Address)); err != nil {
				return err
			}
		}
		return o.Config.operate(ctx, s, func(ops control.Operations) error { return missing(ops.RemoveTOTP(ctx, o.Address)) })
	})
	cmd.Flags().BoolVarP(&o.Yes, "yes", "y", false, "do not ask")
	return cmd
}

func newTOTPAppendCommand(o *UserOptions, s Streams) *cobra.Command {
	var off bool
	cmd := userCommand(o, &cobra.Command{
		Use:   "append-code ADDRESS",
		Short: "Let programs send the code behind the password",
		Long: `Let the account's programs log in by the account's own password with the six digits
of the code right behind it, where they ask for the password each time. The handler
totp must allow it by append_code.`,
		Example: `  mox-like user totp append-code alice@example.org
  mox-like user totp append-code --off alice@example.org`,
	}, func(ctx context.Context) error {
		if err := o.check(); err != nil {
			return err
		}
		return o.Config.operate(ctx, s, func(ops control.Operations) error { return missing(ops.SetAppendCode(ctx, o.Address, !off)) })
	})
	cmd.Flags().BoolVar(&off, "off", false, "end it")
	return cmd
}
