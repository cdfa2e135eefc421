package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/control"
)

// BlocklistOptions are the options of the commands of blocklist.
type BlocklistOptions struct {
	Config ConfigOptions
	// Reason says why a network is blocked.
	Reason string
	// For is how long; the zero span means for good.
	For span
	// Source names the list that an import replaces.
	Source string
	// JSON prints for programs.
	JSON bool
}

func newBlocklistCommand(s Streams) *cobra.Command {
	var o BlocklistOptions
	cmd := &cobra.Command{
		Use:   "blocklist",
		Short: "Block networks, and tell why one is blocked",
		Long: `Work on the networks from which nobody may connect, whether the server runs or
not. The handler blocklist turns their clients away; bruteforce adds to them on its
own. A change is in force at once.

` + exitCodes,
		Example: `  mox-like blocklist add 192.0.2.0/24 --for 7d --reason "scans all ports"
  mox-like blocklist why 192.0.2.7
  mox-like blocklist remove 192.0.2.0/24`,
		SuggestFor: []string{"blocks", "block", "ban", "bans", "blacklist", "fail2ban"},
		Args:       onlyCommands,
		RunE:       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.Config.add(cmd)
	cmd.AddCommand(newBlocklistAddCommand(&o, s), newBlocklistRemoveCommand(&o, s), newBlocklistListCommand(&o, s),
		newBlocklistWhyCommand(&o, s), newBlocklistImportCommand(&o, s))
	return cmd
}

func newBlocklistAddCommand(o *BlocklistOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "add NETWORK",
		Short:   "Block an address or a network",
		Long:    "Block an address or a network, for good or for some time.",
		Example: `  mox-like blocklist add 2001:db8::/48 --reason "nothing good comes from there"`,
		Args:    one("network", "192.0.2.0/24"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBlocklistAdd(cmd.Context(), o, s, args[0])
		},
	}
	cmd.Flags().StringVar(&o.Reason, "reason", "", "say why, in `WORDS` for those who look it up")
	cmd.Flags().Var(&o.For, "for", "end the block after this `TIME`, such as 12h or 30d")
	return cmd
}

func runBlocklistAdd(ctx context.Context, o *BlocklistOptions, s Streams, text string) error {
	network, err := parseNetwork(text)
	if err != nil {
		return usageError{err}
	}
	b := control.Block{Network: network, Reason: o.Reason, Expires: o.For.from(time.Now())}
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		if err := ops.AddBlock(ctx, b); err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "%s is blocked %s.\n", network, until(b.Expires))
		return nil
	})
}

func newBlocklistRemoveCommand(o *BlocklistOptions, s Streams) *cobra.Command {
	return &cobra.Command{
		Use:        "remove NETWORK",
		SuggestFor: []string{"delete", "del", "rm", "unblock", "unban"},
		Short:      "End the blocks of an address or a network",
		Long: `End the blocks of exactly this address or network, whoever made them, and forget the
failed logins for which it waits. Blocks of a larger network that cover it stay:
'blocklist why' shows them.`,
		Example: `  mox-like blocklist remove 192.0.2.7`,
		Args:    one("network", "192.0.2.0/24"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBlocklistRemove(cmd.Context(), o, s, args[0])
		},
	}
}

func runBlocklistRemove(ctx context.Context, o *BlocklistOptions, s Streams, text string) error {
	network, err := parseNetwork(text)
	if err != nil {
		return usageError{err}
	}
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		n, err := ops.RemoveBlock(ctx, network)
		if errors.Is(err, control.ErrNotFound) {
			return fmt.Errorf("%w; 'mox-like blocklist why %s' shows what covers it", err, network.Addr())
		}
		if err != nil {
			return err
		}
		if n == 0 {
			fmt.Fprintf(s.Out, "%s was not blocked; its failed logins are forgotten.\n", network)
			return nil
		}
		fmt.Fprintf(s.Out, "%s of %s ended.\n", count(n, "block"), network)
		return nil
	})
}

func newBlocklistListCommand(o *BlocklistOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the blocked networks",
		Long:    "List the blocked networks in their order, with the source, the end and the reason of each.",
		Example: `  mox-like blocklist list --json`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				t := newTable(s.Out, o.JSON)
				list := func(p control.Page) ([]control.Block, string, error) { return ops.Blocks(ctx, p) }
				return errors.Join(pages(0, list, t.block), t.end())
			})
		},
	}
	addJSON(cmd, &o.JSON)
	return cmd
}

// addJSON gives a command that lists something the flag for programs.
func addJSON(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print one JSON object a line")
}

func (t *table) block(b control.Block) error {
	reason := b.Reason
	if b.Evidence != "" {
		reason += " (" + b.Evidence + ")"
	}
	return t.row(b, b.Network.String(), b.Source, until(b.Expires), reason)
}

func newBlocklistWhyCommand(o *BlocklistOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why ADDRESS",
		Short: "Tell why an address is blocked",
		Long: `Show every block that covers an address, the most specific first: who made it, why,
on what evidence, and when it ends. Those that stand in the settings of the handler
blocklist, its file, and networks that wait since logins failed are shown too, if
the server runs.`,
		Example: `  mox-like blocklist why 192.0.2.7`,
		Args:    one("address", "192.0.2.7"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBlocklistWhy(cmd.Context(), o, s, args[0])
		},
	}
	addJSON(cmd, &o.JSON)
	return cmd
}

func runBlocklistWhy(ctx context.Context, o *BlocklistOptions, s Streams, text string) (err error) {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return badUsage("%q: write an address, as 192.0.2.1", text)
	}
	ops, err := o.Config.connect(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ops.Close()) }()
	list, err := ops.WhyBlocked(ctx, address)
	if err != nil {
		return err
	}
	if _, runs := ops.Operations.(*control.Client); !runs {
		fmt.Fprintln(s.Err, "Only the database was looked at, since no server runs: what the settings block, and who waits since logins failed, is not shown.")
	}
	if len(list) == 0 && !o.JSON {
		fmt.Fprintf(s.Out, "%s is not blocked.\n", address)
		return nil
	}
	t := newTable(s.Out, o.JSON)
	for _, b := range list {
		if err := t.block(b); err != nil {
			return err
		}
	}
	return t.end()
}

func newBlocklistImportCommand(o *BlocklistOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Block all networks of a list",
		Long: `Block all networks of a list, a line each, with comments behind # or ;. The list
takes the place of the one that the same source had before, all at once, so that a
downloaded list can be imported again and again. Without a file the list is read
from the input. A line that is no network is an error that names it, and changes
nothing.`,
		Example: `  mox-like blocklist import --source drop drop.txt
  curl -s https://lists.example.org/drop.txt | mox-like blocklist import --source drop --for 2d`,
		Args: atMostOne("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runBlocklistImport(cmd.Context(), o, s, args)
		},
	}
	cmd.Flags().StringVar(&o.Source, "source", "import", "the `NAME` of the list")
	cmd.Flags().Var(&o.For, "for", "end the blocks after this `TIME`, such as 12h or 30d")
	return cmd
}

func runBlocklistImport(ctx context.Context, o *BlocklistOptions, s Streams, args []string) (err error) {
	list := s.In
	if len(args) == 1 {
		f, err := os.Open(args[0])
		if err != nil {
			return fmt.Errorf("import list: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		list = f
	} else if isTerminal(s.In) {
		return badUsage("name the file of the list, or give the list to the input")
	}
	return o.Config.operate(ctx, s, func(ops control.Operations) error { return importBlocks(ctx, o, s, ops, list) })
}

func importBlocks(ctx context.Context, o *BlocklistOptions, s Streams, ops control.Operations, list io.Reader) error {
	n, err := ops.ImportBlocks(ctx, o.Source, list, o.For.from(time.Now()))
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s blocked by the list %q.\n", count(n, "network"), o.Source)
	return nil
}

// one is for commands with one argument, called what; example shows one.
func one(what, example string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return badUsage("name the %s: %s %s", what, cmd.CommandPath(), example)
		}
		return atMostOne(what)(cmd, args)
	}
}
