package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

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
errors changes nothing, and the errors are printed.

` + exitCodes,
		Example: "  mox-like reload",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runReload(cmd.Context(), &o, s) },
	}
	o.Config.add(cmd)
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
		return fmt.Errorf("reload configuration: no server runs on %s; start one by 'mox-like run'", dir)
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	report, err := server.Reload(ctx)
	if report != nil {
		config.Print(s.Err, report.Diagnostics, report.Sources, config.PrintOptions{Color: color(s.Err)})
	}
	if errors.Is(err, control.ErrRefused) {
		return errRefused
	}
	if err == nil {
		fmt.Fprintln(s.Out, "The configuration is in force.")
	}
	return err
}
