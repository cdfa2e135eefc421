package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mox-like/mox-like/core/check"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/mail"
)

// exitRefused is what check exits with when the message would be refused.
const exitRefused = 1

// CheckOptions are the options of check.
type CheckOptions struct {
	Config ConfigOptions
	// Request says who sends what to whom; Zone is read from ZoneFile.
	Request check.Request
	// File holds the message; "-" is the standard input.
	File string
	// ZoneFile answers in the place of the DNS; "" means the real DNS.
	ZoneFile string
	// JSON prints for programs.
	JSON bool
}

func newCheckCommand(s Streams) *cobra.Command {
	var o CheckOptions
	cmd := &cobra.Command{
		Use:        "check --listener NAME --ip ADDRESS --from ADDRESS --to ADDRESS FILE",
		Short:      "Try a message: tell what would become of it, and why",
		SuggestFor: []string{"try", "test", "simulate"},
		Long: `Send a message through the chain of a listener as a client would, and show what
each handler says, as 'trace' does, what the client would be told at each stage,
whose mail it would be, and which header fields would be added.

The DNS, the daemons, the lists and the counters are the real ones, whether a server
runs or not, but this server neither delivers, counts, learns nor remembers anything.
The daemons are asked as for any other message: a spam filter that learns from what
it sees by itself, as spamd does by default, may learn from this one, and a milter
may count it. With --dns and --now the result is the same whenever the command is
repeated, if no daemon is asked.

FILE holds the message with its header, - is the standard input. If its first line
ends with LF alone, as usual in files, each LF becomes CR LF; else it is sent as it
is. Several recipients are named in the order in which the client would name them. For
those that are put off by 452 4.5.3, since other settings hold for them or there are
too many, the message is tried in further transactions, as the client would send it.

Logins are not part of it: --user stands for a client that has logged in, which is
possible over TLS alone, so that --tls goes without saying; as it does at a listener
with tls = "implicit". At one with tls = "required", a client without either is told
530 5.7.0 Must issue a STARTTLS command first. Not part of it are the limits of
connections and sessions. The clock of --now stands still, so that durations are 0;
the id begins with check- and is in no trace.

Exit status:
  0  the message would be accepted, for every recipient
  1  it would be refused, for all recipients or for some
  2  it could not be tried; the message says why`,
		Example: `  mox-like check --listener mx --ip 192.0.2.1 --helo mail.example.net \
      --from bob@example.net --to alice@example.org message.eml
  mox-like check --listener mx --ip 192.0.2.1 --from '<>' --to alice@example.org -
  mox-like check --listener submission --user alice@example.org \
      --ip 192.0.2.1 --from alice@example.org --to bob@example.net message.eml
  mox-like check --listener mx --ip 192.0.2.1 --from bob@example.net --to alice@example.org \
      --dns example.zone --now 2026-11-01T12:00:00Z --json message.eml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return badUsage("name the file of one message, or - for the standard input; to check a configuration, run 'mox-like validate'")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := incomplete(cmd); err != nil {
				return err
			}
			o.File = args[0]
			return runCheck(cmd.Context(), &o, s)
		},
	}
	o.Config.add(cmd)
	o.addFlags(cmd.Flags())
	return cmd
}

// addFlags adds what says how the message comes.
func (o *CheckOptions) addFlags(flags *pflag.FlagSet) {
	r := &o.Request
	flags.StringVar(&r.Listener, "listener", "", "the `NAME` of the listener by which the message comes in")
	flags.Func("ip", "the client's `ADDRESS`", func(text string) (err error) {
		if r.IP, err = netip.ParseAddr(text); err != nil {
			return errors.New("write an address, as 192.0.2.1")
		}
		return nil
	})
	flags.StringVar(&r.Helo, "helo", "", "what the client calls itself; without it, its address in brackets")
	flags.StringVar(&r.From, "from", "", "the `ADDRESS` of the reverse-path; '' or '<>' is the null one")
	flags.StringArrayVar(&r.To, "to", nil, "the `ADDRESS` of a recipient; may be repeated")
	flags.StringVar(&r.User, "user", "", "as if this `ACCOUNT` had logged in")
	flags.BoolVar(&r.TLS, "tls", false, "as if the connection were encrypted; it is with --user")
	flags.StringVar(&o.ZoneFile, "dns", "", "take the DNS from this zone `FILE` alone; other names do not exist")
	flags.Func("now", "as if it were this `TIME`, as 2026-11-01T12:00:00Z", func(text string) (err error) {
		if r.Now, err = time.Parse(time.RFC3339, text); err != nil || r.Now.IsZero() {
			return errors.New("write a time, as 2026-11-01T12:00:00Z")
		}
		return nil
	})
	flags.BoolVar(&o.JSON, "json", false, "print one JSON object")
}

// incomplete names the flags that a check cannot do without.
func incomplete(cmd *cobra.Command) error {
	var flags []string
	for _, name := range []string{"listener", "ip", "from", "to"} {
		if !cmd.Flags().Changed(name) {
			value, _ := pflag.UnquoteUsage(cmd.Flags().Lookup(name))
			flags = append(flags, "--"+name+" "+value)
		}
	}
	if flags == nil {
		return nil
	}
	return badUsage("say who sends what to whom: %s is missing", strings.Join(flags, ", "))
}

func runCheck(ctx context.Context, o *CheckOptions, s Streams) (err error) {
	// Both are read as who gave the command: root is dropped afterwards.
	if o.ZoneFile != "" {
		if o.Request.Zone, err = readZone(ctx, o.ZoneFile); err != nil {
			return err
		}
	}
	message, err := o.open(s)
	if err != nil {
		return err
	}
	defer message.Close()
	var result *check.Result
	err = o.Config.operate(ctx, s, func(ops control.Operations) error {
		return printReport(s, func() (report *control.Report, err error) {
			if result, report, err = ops.Check(ctx, o.Request, wireLines(message)); err == nil && !o.JSON {
				e := &explainer{ops: ops, mode: settingsChanged, known: make(map[string][]mail.Setting)}
				for _, one := range append([]*check.Result{result}, result.Further...) {
					if err == nil {
						one.Record, err = e.explained(ctx, one.Record)
					}
				}
			}
			return report, err
		})
	})
	if exit, ok := errors.AsType[*exitError](err); ok {
		return &exitError{code: exitFailed, message: exit.message}
	}
	if err != nil {
		return err
	}
	if err := o.print(s, result); err != nil {
		return err
	}
	if !result.Accepted {
		return &exitError{code: exitRefused}
	}
	return nil
}

// open opens the message.
func (o *CheckOptions) open(s Streams) (io.ReadCloser, error) {
	if o.File == "-" {
		return io.NopCloser(s.In), nil
	}
	f, err := os.Open(o.File)
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	return f, nil
}

// readZone reads a zone file, and finds out whether it is one: here its name is known.
func readZone(ctx context.Context, name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("read zone: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, check.MaxZone+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read zone %s: %w", name, err)
	case len(text) > check.MaxZone:
		return "", fmt.Errorf("read zone %s: it has more than %d bytes", name, check.MaxZone)
	case len(bytes.TrimSpace(text)) == 0:
		return "; no name exists\n", nil
	}
	known, err := dns.NewZone(ctx, string(text), dns.Options{})
	if err != nil {
		return "", fmt.Errorf("read zone %s: %w", name, errors.Unwrap(err))
	}
	return string(text), known.Close()
}

// wireLines gives a message as it goes over the wire: if its first line ends with LF
// alone, each LF becomes CR LF.
func wireLines(message io.Reader) io.Reader {
	r := bufio.NewReaderSize(message, 64<<10)
	first, err := r.Peek(r.Size())
	if err != nil && !errors.Is(err, io.EOF) {
		return broken{err}
	}
	if i := bytes.IndexByte(first, '\n'); i < 0 || i > 0 && first[i-1] == '\r' {
		return r
	}
	return &unixLines{from: r}
}

// broken is a file that cannot be read.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// unixLines makes CR LF of LF.
type unixLines struct {
	from *bufio.Reader
	line []byte // converted, and not given yet
	cr   bool   // what came before it ends in CR
	err  error
}

func (u *unixLines) Read(p []byte) (int, error) {
	for len(u.line) == 0 {
		if u.err != nil {
			return 0, u.err
		}
		var part []byte
		if part, u.err = u.from.ReadSlice('\n'); errors.Is(u.err, bufio.ErrBufferFull) {
			u.err = nil
		}
		u.line = append(u.line[:0], part...)
		text, ends := bytes.CutSuffix(part, []byte("\n"))
		whole := bytes.HasSuffix(text, []byte("\r")) || u.cr && len(text) == 0
		if ends && !whole {
			u.line = append(u.line[:len(text)], "\r\n"...)
		}
		u.cr = bytes.HasSuffix(part, []byte("\r"))
	}
	n := copy(p, u.line)
	u.line = u.line[n:]
	return n, nil
}

// print shows the result.
func (o *CheckOptions) print(s Streams, r *check.Result) error {
	if o.JSON {
		if err := json.NewEncoder(s.Out).Encode(r); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	parts := append([]*check.Result{r}, r.Further...)
	for i, part := range parts {
		if i > 0 {
			if _, err := fmt.Fprintf(s.Out, "\nTransaction %d of %d, for those that were put off:\n\n", i+1, len(parts)); err != nil {
				return err
			}
		}
		if err := printPart(s, part); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(s.Out, "\n%s\n%s\n", conclusion(r), aside)
	return err
}

// aside is what ends each check: a daemon is asked like for any other message.
const aside = "Nothing was delivered, counted or learned by this server; a daemon that was asked may do so by itself."

// printPart shows what became of one transaction.
func printPart(s Streams, r *check.Result) error {
	p := &tracePrinter{w: s.Out, color: color(s.Out), explain: true}
	if err := p.print(r.Record); err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("\nReplies:\n")
	columns := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, one := range r.Replies {
		stage := one.Stage
		if one.Recipient != "" {
			stage += " <" + harmless(one.Recipient) + ">"
		}
		fmt.Fprintf(columns, "  %s\t%s\n", stage, harmless(one.Reply))
	}
	if err := columns.Flush(); err != nil {
		return err
	}
	printRecipients(&b, r)
	printFields(&b, "added", r.Added)
	printFields(&b, "removed", r.Removed)
	_, err := s.Out.Write(b.Bytes())
	return err
}

// printRecipients says whose mail it would be.
func printRecipients(b *bytes.Buffer, r *check.Result) {
	if len(r.Recipients) == 0 {
		return
	}
	b.WriteString("\nRecipients:\n")
	for _, one := range r.Recipients {
		what := "refused"
		switch {
		case one.Accepted && len(one.Accounts) > 0:
			what = "mail for " + strings.Join(one.Accounts, ", ")
		case one.Accepted && one.Target != "":
			what = "taken by " + one.Target
		case one.Accepted:
			what = "taken out by a handler"
		case one.Later:
			what = "in a transaction of its own, see below"
		}
		fmt.Fprintf(b, "  %s: %s\n", harmless(one.Address), harmless(what))
	}
}

func printFields(b *bytes.Buffer, what string, fields []string) {
	if len(fields) == 0 {
		return
	}
	fmt.Fprintf(b, "\nHeader fields that would be %s:\n", what)
	for _, f := range fields {
		fmt.Fprintf(b, "  %s\n", harmless(strings.ReplaceAll(f, "\t", " ")))
	}
}

// conclusion says in a line how it would end.
func conclusion(r *check.Result) string {
	last := ""
	if n := len(r.Replies); n > 0 {
		last = harmless(r.Replies[n-1].Reply)
	}
	switch {
	case len(r.Further) > 0 && r.Accepted:
		return fmt.Sprintf("Accepted in %d transactions, see each", len(r.Further)+1)
	case len(r.Further) > 0:
		return fmt.Sprintf("Refused for some recipients, or in some of %d transactions, see each", len(r.Further)+1)
	case !r.Accepted && strings.HasPrefix(last, "2"):
		return "Refused for some recipients, accepted for the others: " + last
	case !r.Accepted:
		return "Refused: " + last
	case r.Discarded:
		return "Accepted, and thrown away: " + last
	case r.Quarantine != "":
		return "Accepted, and kept out of the inbox (" + harmless(r.Quarantine) + "): " + last
	default:
		return "Accepted: " + last
	}
}
