// Package cli holds the commands of mox-like, a file each. A command parses its
// arguments into options, runs, and prints to the streams that it is given.
//
// Commands that work on a data directory do so alike whether a server runs on it
// or not, see package control.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// What the commands exit with.
const (
	exitInvalid = 1 // the configuration has errors
	exitFailed  = 2 // it could not be done
	exitStrict  = 3 // validate --strict met warnings
	exitStopped = 3 // status found no server
)

const exitCodes = `Exit status:
  0  all went well
  1  the configuration has errors
  2  it could not be done; the message says why`

// exitError ends the program with a code. Its message is printed unless it is
// empty: then the command has said everything already.
type exitError struct {
	code    int
	message string
}

func (e *exitError) Error() string { return e.message }

// errInvalid is the end of a command whose configuration has errors, which it
// has printed.
var errInvalid = &exitError{code: exitInvalid}

// Streams are what commands read from and print to.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// color tells whether w is a terminal whose user has nothing against colours
// (https://no-color.org).
func color(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Main runs the command that the program's arguments name, and exits.
func Main() {
	os.Exit(Run(context.Background(), os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// Run runs the command that args name and gives the exit status.
func Run(ctx context.Context, args []string, s Streams) int {
	root := newRootCommand(s)
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	code := exitFailed
	message := err.Error()
	if exit, ok := errors.AsType[*exitError](err); ok {
		code, message = exit.code, exit.message
	} else if _, ok := errors.AsType[usageError](err); ok {
		message += fmt.Sprintf("\nSee '%s --help'.", cmd.CommandPath())
	}
	if message != "" {
		fmt.Fprintf(s.Err, "mox-like: %s\n", message)
	}
	return code
}

func newRootCommand(s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:     "mox-like",
		Version: version(),
		Short:   "A mail server made of modules",
		Long: `A mail server made of modules: one file says which of them run, and in which
order they judge every connection and every message.

Begin with 'mox-like demo'. It serves mail on this machine alone, and shows what
each module says to each message.`,
		Example: `  mox-like demo
  mox-like demo --print-config > mox-like.hcl
  mox-like validate
  mox-like run`,
		Args:          onlyCommands,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("mox-like {{.Version}}\n")
	root.SetFlagErrorFunc(badFlag)
	root.AddCommand(
		newRunCommand(s),
		newDemoCommand(s),
		newValidateCommand(s),
		newUserCommand(s),
		newDomainCommand(s),
		newConfigCommand(s),
		newFmtCommand(s),
		newBlocklistCommand(s),
		newGreylistCommand(s),
		newQuarantineCommand(s),
		newDKIMCommand(s),
		newAuditCommand(s),
		newTraceCommand(s),
		newStatsCommand(s),
		newCheckCommand(s),
		newReloadCommand(s),
		newStatusCommand(s),
		newModulesCommand(s),
		newVersionCommand(s),
		newManCommand(s),
	)
	return root
}
