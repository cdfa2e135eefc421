package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/graph"
)

// GraphOptions are the options of config graph.
type GraphOptions struct {
	ShowOptions
	// Format is text or svg.
	Format string
}

func newConfigGraphCommand(of *ConfigOptions, s Streams) *cobra.Command {
	o := GraphOptions{ShowOptions: ShowOptions{Config: of}}
	cmd := &cobra.Command{
		Use:        "graph",
		SuggestFor: []string{"draw", "picture", "chains"},
		Short:      "Draw the chains",
		Long: `Draw the chains of the listeners: the handlers in order and the stages at which they
act, those in parallel beside each other, named chains with where they are used, and
the targets at the end. With --domain they are those of one domain.

The picture in SVG is whole in itself, and fits light and dark pages.

` + exitCodes,
		Example: `  mox-like config graph
  mox-like config graph --domain example.org --format svg > chains.svg`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runConfigGraph(cmd.Context(), &o, s) },
	}
	o.addQuery(cmd)
	cmd.Flags().StringVar(&o.Format, "format", "text", "draw in a `FORMAT`: text or svg")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "svg"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runConfigGraph(ctx context.Context, o *GraphOptions, s Streams) error {
	if o.Format != "text" && o.Format != "svg" {
		return badUsage("--format is text or svg, not %q", o.Format)
	}
	c, _, err := o.look(ctx, s)
	if err != nil {
		return err
	}
	if o.Format == "svg" {
		return graph.SVG(s.Out, c)
	}
	return graph.Text(s.Out, c)
}
