package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
)

// StatusOptions are the options of status.
type StatusOptions struct {
	Config ConfigOptions
	// JSON prints for programs.
	JSON bool
}

func newStatusCommand(s Streams) *cobra.Command {
	var o StatusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell whether the server runs, and where it listens",
		Long: `Tell whether a server runs on the configuration's data directory, since when,
and where it listens.

` + exitCodes + `
  3  no server runs`,
		Example: `  mox-like status
  mox-like status --json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), &o, s) },
	}
	o.Config.add(cmd)
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print one JSON object")
	return cmd
}

func runStatus(ctx context.Context, o *StatusOptions, s Streams) error {
	server, dir, err := o.Config.connectRunning(ctx, s)
	status := &control.Status{DataDir: absolute(dir)}
	if err == nil {
		status, err = server.Status(ctx)
		err = errors.Join(err, server.Close())
	}
	if err != nil && !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	if !o.JSON {
		printStatus(s, status)
	} else if err := json.NewEncoder(s.Out).Encode(status); err != nil {
		return fmt.Errorf("print status: %w", err)
	}
	if !status.Running {
		return &exitError{code: exitStopped}
	}
	return nil
}

// absolute gives the path from the root, where the system can tell.
func absolute(path string) string {
	whole, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return whole
}

func printStatus(s Streams, status *control.Status) {
	if !status.Running {
		fmt.Fprintf(s.Out, "No server runs on %s.\n", status.DataDir)
		return
	}
	fmt.Fprintf(s.Out, "mox-like %s runs as process %d since %s\n", status.Version, status.ProcessID, status.Since.Local().Format(time.DateTime))
	fmt.Fprintf(s.Out, "configuration  %s\n", status.ConfigFile)
	fmt.Fprintf(s.Out, "data           %s\n", status.DataDir)
	for _, l := range status.Listeners {
		fmt.Fprintf(s.Out, "listener       %s %q on %s\n", l.Kind, l.Name, strings.Join(l.Addresses, ", "))
	}
	switch {
	case status.Reloaded.IsZero():
	case status.ReloadError != "":
		fmt.Fprintf(s.Out, "reload         refused at %s: %s\n", status.Reloaded.Local().Format(time.DateTime), status.ReloadError)
	default:
		fmt.Fprintf(s.Out, "reload         in force since %s\n", status.Reloaded.Local().Format(time.DateTime))
	}
}
