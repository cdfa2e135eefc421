package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
)

// ReloadOptions are the options of reload.
type ReloadOptions struct{ Config ConfigOptions }

func newReloadCommand(s Streams) *cobra.Command {
	var o ReloadOptions
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running server read its configuration again",
		Long: `Have the running server read its configuration again, from the file that it was
started with. Sessions in flight end with the old one. A configuration with
errors changes nothing, and the errors are printed. What takes effect at the next
restart only is told by warnings. The file of the log is opened again, so that
logrotate can rename it.

The server keeps the values of variables that it was started with. Where the file
cannot be read without them, give them in the environment (MOXLIKE_VAR_NAME), or
send the server SIGHUP.

` + exitCodes,
		Example: "  mox-like reload",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runReload(cmd.Context(), &o, s) },
	}
	o.Config.addFile(cmd)
	refuseFlags(cmd, "reload takes no variables: the server keeps the values that it was started with; restart it to change them", "var", "var-file")
	return cmd
}

// errRefused is the end of a reload whose diagnostics are printed.
var errRefused = &exitError{code: exitInvalid, message: control.ErrRefused.Error()}

func runReload(ctx context.Context, o *ReloadOptions, s Streams) (err error) {
	server, dir, err := o.Config.connectRunning(ctx, s)
	switch {
	case errors.Is(err, errInvalid):
		return errRefused
	case errors.Is(err, control.ErrNotRunning):
		return fmt.Errorf("reload configuration: no server runs on %s; start one by 'mox-like run'", absolute(dir))
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	file, err := o.fileInForce(ctx, server)
	if err != nil {
		return fmt.Errorf("reload configuration: %w", err)
	}
	report, err := server.Reload(ctx)
	if report != nil {
		config.Print(s.Err, report.Diagnostics, report.Sources, config.PrintOptions{Color: color(s.Err)})
	}
	if errors.Is(err, control.ErrRefused) {
		return errRefused
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(report.Diagnostics, func(d config.Diagnostic) bool { return d.Code == core.NeedsRestart }) {
		fmt.Fprintf(s.Out, "The configuration is in force, but for what takes effect at the next restart: %s\n", file)
		return nil
	}
	fmt.Fprintf(s.Out, "The configuration is in force: %s\n", file)
	return nil
}

// fileInForce gives the file that the server runs, which must be the one that the
// command is about.
func (o *ReloadOptions) fileInForce(ctx context.Context, server control.Process) (string, error) {
	status, err := server.Status(ctx)
	if err != nil {
		return "", err
	}
	file, err := o.Config.file()
	if err != nil {
		return "", err
	}
	if !sameFile(status.ConfigFile, file) {
		return "", fmt.Errorf("the server runs %s, not %s: restart it to change the file", status.ConfigFile, absolute(file))
	}
	return status.ConfigFile, nil
}

// sameFile tells whether two paths lead to one file.
func sameFile(a, b string) bool {
	if absolute(a) == absolute(b) {
		return true
	}
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}
