package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core"
)

// RunOptions are the options of run.
type RunOptions struct {
	Config ConfigOptions
}

func newRunCommand(s Streams) *cobra.Command {
	var o RunOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the server",
		Long: `Run the server in the foreground until SIGTERM or SIGINT, which lets sessions
end first; a second signal ends it at once. SIGHUP reads the configuration again,
as does 'mox-like reload'. One with errors starts nothing and changes nothing.

Under systemd (Type=notify or notify-reload) the service is ready when every
socket listens, WatchdogSec= is answered as long as the database can be used, and
sockets of socket units are taken over where their addresses match those of the
listeners. Started as root, the server becomes the user of the server block once
its ports are bound.

` + exitCodes + `, such as a port
     that is taken or a data directory that another process uses`,
		Example: `  mox-like run
  mox-like run --config /etc/mox-like/mox-like.hcl
  mox-like run --var hostname=mx1.example.org --var-file secrets.hcl`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runRun(cmd.Context(), &o, s) },
	}
	o.Config.add(cmd)
	return cmd
}

func runRun(ctx context.Context, o *RunOptions, s Streams) error {
	options, err := o.Config.server()
	if err != nil {
		return err
	}
	dir, _, _, err := core.DataDir(options)
	if err != nil {
		// The whole check finds more than what concerns the data directory.
		ds, sources := core.Validate(options)
		return printInvalid(s, ds, sources, err)
	}
	options.DropPrivileges = becomeUser(dir)
	if options.Sockets, err = activatedSockets(); err != nil {
		return err
	}
	p := &process{options: options, dir: dir, streams: s}
	return p.serve(ctx)
}
