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
and where it listens; which handlers have given no verdict at times, and since when
they fail; which lessons wait for spam filters, and what the quarantine holds; and
when old rows were last removed.

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
	printHealth(s, status)
}

// printHealth prints what has failed, and when old rows were last removed.
func printHealth(s Streams, status *control.Status) {
	for _, h := range status.Handlers {
		state := h.State
		if h.State != control.StateOK {
			state += " since " + moment(h.Since)
		}
		fmt.Fprintf(s.Out, "handler        %s of %q: %s; %s, %d let pass; the last at %s: %s\n", h.Handler, h.Listener, state,
			count(int(h.Errors), "error"), h.Passed, moment(h.LastErrorAt), harmless(h.LastError))
	}
	for _, r := range status.Reports {
		_, name, _ := strings.Cut(r.Module, ".")
		fmt.Fprintf(s.Out, "%-14s %s\n", harmless(name), harmless(r.Text))
	}
	if status.DNS != nil {
		fmt.Fprintf(s.Out, "dns            no server answers since %s: %s\n", moment(status.DNS.Since), harmless(status.DNS.Error))
	}
	for _, c := range status.CleanUps {
		if c.Last.IsZero() {
			continue
		}
		line := fmt.Sprintf("%s removed at %s, %d since the start", count(int(c.Removed), "old row"), moment(c.Last), c.Total)
		if c.Error != "" {
			line += "; it failed: " + harmless(c.Error)
		}
		fmt.Fprintf(s.Out, "clean-up       %s: %s\n", c.Module, line)
	}
}
