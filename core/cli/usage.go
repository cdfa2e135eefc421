package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mox-like/mox-like/core/config"
)

// usageError is an error of the arguments.
type usageError struct{ error }

func badUsage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// arguments is for commands that take none: where check finds some it tells bad
// usage, and how a file is named.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case check(cmd, args) == nil:
			return nil
		case cmd.Flag("config") != nil:
			return badUsage("%s takes no file: name it with --config FILE", words(cmd))
		default:
			return badUsage("%s takes no arguments, but here is %q", words(cmd), args[0])
		}
	}
}

// atMostOne lets a command have one argument, called what.
func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return badUsage("%s takes one %s at a time, but here are %d", words(cmd), what, len(args))
		}
		return nil
	}
}

// words names a command as people do, without the program.
func words(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// onlyCommands is for commands that do nothing but hold others.
func onlyCommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if meant := suggest(cmd, args[0]); meant != nil {
		return badUsage("unknown command %q for %q: did you mean '%s'?", args[0], cmd.CommandPath(), meant.CommandPath())
	}
	return badUsage("unknown command %q for %q", args[0], cmd.CommandPath())
}

// suggest finds the command below cmd that was probably meant: one that says so
// by SuggestFor, at any depth, else one whose name is near; nil if there is none.
func suggest(cmd *cobra.Command, word string) *cobra.Command {
	var names []string
	for _, c := range cmd.Commands() {
		if slices.Contains(c.SuggestFor, word) {
			return c
		}
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	for _, c := range cmd.Commands() {
		for _, below := range c.Commands() {
			if below.Name() == word || slices.Contains(below.SuggestFor, word) {
				return below
			}
		}
	}
	near := config.Suggest(word, names)
	for _, c := range cmd.Commands() {
		if c.Name() == near {
			return c
		}
	}
	return nil
}

// badFlag says what is wrong with the flags.
func badFlag(cmd *cobra.Command, err error) error {
	// A command that is not there has no flags either.
	if args := cmd.Flags().Args(); cmd.HasAvailableSubCommands() && len(args) > 0 {
		return onlyCommands(cmd, args)
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		name, value := invalid.GetFlag().Name, invalid.GetValue()
		if n, ok := invalid.GetFlag().Value.(*number); ok {
			return badUsage("--%s is %d to %d, not %q", name, n.min, n.max, value)
		}
		return badUsage("--%s %q: %w", name, value, invalid.Unwrap())
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return unknownFlag(cmd, unknown)
	}
	return usageError{err}
}

// unknownFlag names the flag that was probably meant.
func unknownFlag(cmd *cobra.Command, unknown *pflag.NotExistError) error {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := config.Suggest(unknown.GetSpecifiedName(), names); near != "" {
		return badUsage("%w: did you mean --%s?", unknown, near)
	}
	return usageError{unknown}
}

// refuseFlags says why a command has no flags of those names.
func refuseFlags(cmd *cobra.Command, why string, names ...string) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && slices.Contains(names, unknown.GetSpecifiedName()) {
			return usageError{errors.New(why)}
		}
		return badFlag(cmd, err)
	})
}

// number is the value of a flag: a whole number within bounds, see badFlag.
type number struct {
	value    *int
	min, max int
}

// newNumber gives the flag of *value, which is set to the default.
func newNumber(value *int, standard, least, most int) *number {
	*value = standard
	return &number{value: value, min: least, max: most}
}

// Set implements pflag.Value.
func (n *number) Set(text string) error {
	v, err := strconv.Atoi(text)
	if err == nil && (v < n.min || v > n.max) {
		err = strconv.ErrRange
	}
	if err == nil {
		*n.value = v
	}
	return err
}

// String and Type complete pflag.Value.
func (n *number) String() string { return strconv.Itoa(*n.value) }

// Type is what the help calls the value.
func (*number) Type() string { return "number" }

var _ pflag.Value = (*number)(nil)
