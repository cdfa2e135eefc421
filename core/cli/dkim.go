package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/idna"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/dkimkey"
	"github.com/mox-like/mox-like/core/mail"
)

// DKIMOptions are the options of the commands of dkim.
type DKIMOptions struct {
	Config ConfigOptions
	// Algorithm is that of new keys: one of package dkimkey, or both; "" is the
	// command's choice.
	Algorithm string
	// Selector names new keys; "" has one made.
	Selector string
	// File takes a key for the configuration's own use; "" has the server manage it.
	File string
	// Force waits neither for the DNS nor for the end of an overlap.
	Force bool
	// Form prints records for the forms of DNS providers, not for a zone file.
	Form bool
	// JSON prints for programs.
	JSON bool
}

// exitWrong is the status of commands that have found something wrong in the DNS,
// exitUnknown of those that could not ask it.
const (
	exitWrong   = 1
	exitUnknown = 2
)

const dkimExitCodes = `Exit status:
  0  all went well
  1  the DNS does not have what it must; the configuration has errors
  2  it could not be done, or the DNS could not be asked; the message says why`

func newDKIMCommand(s Streams) *cobra.Command {
	var o DKIMOptions
	cmd := &cobra.Command{
		Use:   "dkim",
		Short: "Make, publish, replace and check the keys that sign mail",
		Long: `Work on the keys by which domains sign their mail, whether the server runs or not. A
server that runs signs with new keys at once.

The server manages the keys of a domain with 'dkim {}' in its block of the file. They
go through four states:

  pending   made, and not in use: its record is to be published
  active    signs; of each algorithm one does
  retiring  replaced: its record must stay while mail is on its way
  retired   its private part is deleted: its record may be removed

'dkim keygen' makes the first keys, and 'dkim rotate', again and again, does each
further step. 'dkim dns' prints the records, and 'dkim check' asks the DNS for them.

` + dkimExitCodes,
		Example: `  mox-like dkim keygen example.org
  mox-like dkim dns example.org
  mox-like dkim check
  mox-like dkim rotate example.org`,
		Args: onlyCommands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.Config.add(cmd)
	cmd.AddCommand(newDKIMKeygenCommand(&o, s), newDKIMDNSCommand(&o, s), newDKIMRotateCommand(&o, s), newDKIMCheckCommand(&o, s))
	return cmd
}

func newDKIMKeygenCommand(o *DKIMOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen DOMAIN",
		Short: "Make keys for a domain",
		Long: `Make keys that the server manages, and print the records to publish. The first keys of
a domain sign at once, so publish their records before mail goes out; further ones
wait for 'dkim rotate'.

With --file it only writes a private key into a file that is not there yet, for its
owner alone, and prints the block that names it in the configuration: for keys that
you keep yourself. It needs no configuration and changes nothing else.`,
		Example: `  mox-like dkim keygen example.org
  mox-like dkim keygen example.org --algorithm ed25519 --selector s2027
  mox-like dkim keygen example.org --file dkim/example.org.pem`,
		Args: one("domain", "example.org"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.File != "" {
				return runDKIMKeyFile(o, s, args[0], time.Now())
			}
			return runDKIMKeygen(cmd.Context(), o, s, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Algorithm, "algorithm", "", "rsa2048, ed25519 or both; without it both, and with --file rsa2048")
	flags.StringVar(&o.Selector, "selector", "", "name the key `SELECTOR` in the DNS; without it a name with today's date")
	flags.StringVar(&o.File, "file", "", "only write a private key into the new file `PATH`")
	_ = cmd.RegisterFlagCompletionFunc("algorithm", cobra.FixedCompletions([]string{dkimkey.RSA2048, dkimkey.Ed25519, "both"}, cobra.ShellCompDirectiveNoFileComp))
	addJSON(cmd, &o.JSON)
	return cmd
}

func runDKIMKeygen(ctx context.Context, o *DKIMOptions, s Streams, domain string) error {
	n := control.NewDKIMKeys{Selector: o.Selector}
	switch o.Algorithm {
	case "", "both":
	case dkimkey.RSA2048, dkimkey.Ed25519:
		n.Algorithms = []string{o.Algorithm}
	default:
		return badUsage("--algorithm is %s, %s or both, not %q", dkimkey.RSA2048, dkimkey.Ed25519, o.Algorithm)
	}
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		step, err := ops.MakeDKIMKeys(ctx, domain, n)
		if err != nil {
			return err
		}
		return o.printStep(s, step)
	})
}

// printStep prints what was done and what is to be done next.
func (o *DKIMOptions) printStep(s Streams, step *control.DKIMStep) error {
	if o.JSON {
		return encodeJSON(s, step)
	}
	printDKIMStep(s.Out, step)
	return nil
}

func encodeJSON(s Streams, object any) error {
	if err := json.NewEncoder(s.Out).Encode(object); err != nil {
		return fmt.Errorf("print entry: %w", err)
	}
	return nil
}

// runDKIMKeyFile writes a key that the configuration is to name.
func runDKIMKeyFile(o *DKIMOptions, s Streams, domain string, now time.Time) error {
	algorithm := o.Algorithm
	switch algorithm {
	case "":
		algorithm = dkimkey.RSA2048
	case dkimkey.RSA2048, dkimkey.Ed25519:
	default:
		return badUsage("a file has one key: with --file, --algorithm is %s or %s, not %q", dkimkey.RSA2048, dkimkey.Ed25519, algorithm)
	}
	selector := o.Selector
	if selector == "" {
		selector = "s" + now.UTC().Format("20060102")
	}
	if !dkimkey.IsSelector(selector) {
		return badUsage("%q is no selector: it has letters, digits and hyphens, such as s2026", selector)
	}
	name, err := mail.ParseDomain(domain)
	if err != nil {
		return badUsage("%q is no domain", domain)
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil {
		return badUsage("%q is no domain", domain)
	}
	path, err := filepath.Abs(o.File)
	if err != nil {
		return fmt.Errorf("find %s: %w", o.File, err)
	}
	key := control.DKIMKey{Domain: name, Selector: selector, State: control.DKIMInFile, File: path, Name: dkimkey.Name(selector, ascii)}
	if key.Value, err = writeDKIMKey(path, algorithm); err != nil {
		return err
	}
	key.Algorithm, key.Bits = "rsa-sha256", 2048
	if algorithm == dkimkey.Ed25519 {
		key.Algorithm, key.Bits = "ed25519-sha256", 256
	}
	if o.JSON {
		return encodeJSON(s, key)
	}
	printDKIMKeyFile(s.Out, key, os.Geteuid() == 0)
	return nil
}

// writeDKIMKey makes a key, writes it into a new file, and gives its record.
func writeDKIMKey(path, algorithm string) (record string, err error) {
	signer, err := dkimkey.Generate(algorithm)
	if err != nil {
		return "", err
	}
	text, err := dkimkey.Encode(signer)
	if err != nil {
		return "", err
	}
	switch err := dkimkey.Write(path, text); {
	case errors.Is(err, fs.ErrExist):
		return "", fmt.Errorf("%s is there already, and may be a key that is in use: name another file", path)
	case err != nil:
		return "", err
	}
	return dkimkey.Record(signer.Public())
}

func newDKIMDNSCommand(o *DKIMOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dns DOMAIN",
		Short: "Print the records that publish the keys of a domain",
		Long: `Print the records that the DNS must have for the keys of a domain: ready for a zone
file, or with --form as one name and one value, as the forms of DNS providers have
them. Records that may be removed stand at the end. It does not ask the DNS:
'dkim check' does.`,
		Example: `  mox-like dkim dns example.org >> example.org.zone
  mox-like dkim dns example.org --form
  mox-like dkim dns example.org --json`,
		Args: one("domain", "example.org"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				keys, err := ops.DKIMKeys(ctx, args[0])
				if err != nil {
					return err
				}
				if !o.JSON {
					printDKIMZone(s.Out, args[0], keys, o.Form)
					return nil
				}
				for i := range keys {
					if err := encodeJSON(s, keys[i]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&o.Form, "form", false, "print name and value as the forms of DNS providers have them")
	addJSON(cmd, &o.JSON)
	return cmd
}

func newDKIMRotateCommand(o *DKIMOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate DOMAIN",
		Short: "Do the next safe step of replacing a domain's keys",
		Long: `Do the next safe step of replacing the keys of a domain that the server manages, and
say what to do before the next one:

  1. Without pending keys, make new ones and print their records.
  2. With pending keys, ask the DNS for them. Once it has all, sign with them; the old
     keys are retiring for the 'overlap' of the block dkim (7 days without it).
  3. After the overlap, delete the old private keys.

Without --force nothing is signed with a key that the DNS does not show. With it,
step 2 does not ask the DNS, and step 3 does not wait: for a key that somebody has
stolen. It exits with 1 if the DNS does not have the pending keys, and with 2 if no
name server answers.`,
		Example: `  mox-like dkim rotate example.org`,
		Args:    one("domain", "example.org"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return o.Config.operate(ctx, s, func(ops control.Operations) error {
				step, err := ops.RotateDKIM(ctx, args[0], o.Force)
				if err != nil {
					return err
				}
				if err := o.printStep(s, step); err != nil {
					return err
				}
				switch {
				case step.Unknown:
					return &exitError{code: exitUnknown}
				case step.Waiting:
					return &exitError{code: exitWrong}
				default:
					return nil
				}
			})
		},
	}
	cmd.Flags().BoolVar(&o.Force, "force", false, "wait neither for the DNS nor for the end of the overlap")
	addJSON(cmd, &o.JSON)
	return cmd
}

func newDKIMCheckCommand(o *DKIMOptions, s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [DOMAIN]...",
		Short: "Ask the DNS for the keys of domains",
		Long: `Ask the DNS, by the server's resolver, for each key of the domains, of all domains of
the configuration without a name. It finds records that are missing, have another
key, are revoked, weak, broken, or only for tests, and private keys that have gone,
and prints what to publish. It changes nothing, and exits with 1 if mail suffers, and
with 2 if nothing is found wrong, but a name server did not answer.`,
		Example: `  mox-like dkim check
  mox-like dkim check example.org --json`,
		RunE: func(cmd *cobra.Command, args []string) error { return runDKIMCheck(cmd.Context(), o, s, args) },
	}
	addJSON(cmd, &o.JSON)
	return cmd
}

func runDKIMCheck(ctx context.Context, o *DKIMOptions, s Streams, domains []string) error {
	return o.Config.operate(ctx, s, func(ops control.Operations) error {
		if len(domains) == 0 {
			all, err := ops.Domains(ctx)
			if err != nil {
				return err
			}
			for _, d := range all {
				domains = append(domains, d.Name)
			}
		}
		wrong, unknown := false, false
		for i, domain := range domains {
			report, err := ops.CheckDKIM(ctx, domain)
			if err != nil {
				return err
			}
			wrong, unknown = wrong || report.Wrong(), unknown || report.Unknown()
			if o.JSON {
				if err := encodeJSON(s, report); err != nil {
					return err
				}
				continue
			}
			if i > 0 {
				fmt.Fprintln(s.Out)
			}
			printDKIMReport(s.Out, report)
		}
		switch {
		case wrong:
			return &exitError{code: exitWrong}
		case unknown:
			return &exitError{code: exitUnknown}
		default:
			return nil
		}
	})
}
