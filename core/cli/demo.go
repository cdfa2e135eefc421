package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// DemoOptions are the options of demo.
type DemoOptions struct {
	Ports DemoPorts
	// Dir keeps the configuration, the passwords and the data between runs; ""
	// means a directory in the user's cache.
	Dir string
	// PrintConfig prints the configuration and runs nothing.
	PrintConfig bool
}

// DemoPorts are the ports of the demo on 127.0.0.1.
type DemoPorts struct {
	SMTP, Submission, StartTLS, IMAP int
}

// flags names the flag of each port.
func (p *DemoPorts) flags() []demoFlag {
	return []demoFlag{
		{"smtp-port", &p.SMTP, 2525, "the `PORT` for mail from strangers"},
		{"submission-port", &p.Submission, 4465, "the `PORT` for mail from users, by TLS"},
		{"starttls-port", &p.StartTLS, 5587, "the `PORT` for mail from users, by STARTTLS"},
		{"imap-port", &p.IMAP, 9993, "the `PORT` for reading mail, by TLS"},
	}
}

type demoFlag struct {
	name  string
	port  *int
	value int
	usage string
}

// demoUsers are the accounts of the demo.
var demoUsers = [...]string{"alice@example.test", "bob@example.test"}

func newDemoCommand(s Streams) *cobra.Command {
	var o DemoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try the whole server on this machine, without a configuration",
		Long: `Run the whole server on 127.0.0.1 with a certificate of its own, the domain
example.test and the users alice and bob. The demo prints commands to paste into
another terminal, and then shows for each message and login what each handler
said. Ctrl-C ends it. What it stored is there again at the next run.

The other commands work with it too: give them the configuration that it prints
the name of, as in 'mox-like trace --last 20 --config FILE'.

Exit status:
  0  it ended in order
  2  it could not run, as when a port is taken; the message says why`,
		Example: `  mox-like demo
  mox-like demo --smtp-port 2526 --imap-port 9994
  mox-like demo --print-config > mox-like.hcl`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), &o, s) },
	}
	for _, f := range o.Ports.flags() {
		cmd.Flags().Var(newNumber(f.port, f.value, 1, 65535), f.name, f.usage)
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "keep everything in `DIR` (default: mox-like/demo in your cache directory)")
	cmd.Flags().BoolVar(&o.PrintConfig, "print-config", false, "print the configuration that the demo runs, and end")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

//go:embed demo.hcl.tmpl
var demoText string

var demoTemplate = template.Must(template.New("demo.hcl.tmpl").Parse(demoText))

// configuration gives the demo's configuration. The demo itself shows traces, so
// its log has only what needs a look.
func (o *DemoOptions) configuration(logLevel string) ([]byte, error) {
	var b bytes.Buffer
	err := demoTemplate.Execute(&b, struct {
		DemoPorts
		LogLevel string
	}{o.Ports, logLevel})
	return b.Bytes(), err
}

func runDemo(ctx context.Context, o *DemoOptions, s Streams) error {
	if o.PrintConfig {
		text, err := o.configuration("info")
		if err != nil {
			return err
		}
		_, err = s.Out.Write(text)
		return err
	}
	dir, err := o.makeDir()
	if err != nil {
		return fmt.Errorf("prepare demo: %w", err)
	}
	text, err := o.configuration("warn")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, localConfig)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("prepare demo: %w", err)
	}
	passwords, err := demoPasswords(filepath.Join(dir, "passwords"))
	if err != nil {
		return fmt.Errorf("prepare demo: %w", err)
	}
	p := &process{
		options: core.Options{ConfigFile: file},
		dir:     filepath.Join(dir, "data"),
		streams: s,
		work: func(ctx context.Context, ops control.Operations) error {
			return demonstrate(ctx, o, file, passwords, ops, s)
		},
	}
	return o.explain(p.serve(ctx))
}

// makeDir makes the directory that keeps everything.
func (o *DemoOptions) makeDir() (string, error) {
	dir := o.Dir
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("%w; name a directory by --dir", err)
		}
		dir = filepath.Join(cache, "mox-like", "demo")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// explain says which flag helps when a port is taken, or the directory.
func (o *DemoOptions) explain(err error) error {
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%w; for a second demo give --dir and other ports", err)
	}
	var op *net.OpError
	if !errors.Is(err, syscall.EADDRINUSE) || !errors.As(err, &op) {
		return err
	}
	address, ok := op.Addr.(*net.TCPAddr)
	if !ok {
		return err
	}
	for _, f := range o.Ports.flags() {
		if *f.port == address.Port {
			return fmt.Errorf("port %d is taken, perhaps by another demo: choose another by --%s", address.Port, f.name)
		}
	}
	return err
}

// demonstrate makes the users, says what can be tried, and shows what happens.
func demonstrate(ctx context.Context, o *DemoOptions, file string, passwords map[string]mail.Secret, ops control.Operations, s Streams) error {
	for _, user := range demoUsers {
		err := ops.AddUser(ctx, user, passwords[user])
		if errors.Is(err, control.ErrExists) {
			err = ops.SetPassword(ctx, user, passwords[user])
		}
		if err != nil {
			return fmt.Errorf("prepare demo: %w", err)
		}
	}
	if err := demoPage.Execute(s.Out, newDemoPage(o, file, passwords)); err != nil {
		return fmt.Errorf("print instructions: %w", err)
	}
	p := &tracePrinter{w: s.Out, color: color(s.Out)}
	return ops.FollowTraces(ctx, p.print)
}

// demoPasswords reads the users' passwords, a line each, or makes them.
func demoPasswords(name string) (map[string]mail.Secret, error) {
	passwords := make(map[string]mail.Secret)
	f, err := os.Open(name)
	if err == nil {
		defer f.Close()
		lines := bufio.NewScanner(io.LimitReader(f, maxLine))
		for lines.Scan() {
			if user, password, ok := strings.Cut(lines.Text(), " "); ok {
				passwords[user] = mail.Secret(password)
			}
		}
		err = lines.Err()
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read passwords: %w", err)
	}
	var text strings.Builder
	fresh := false
	for _, user := range demoUsers {
		if passwords[user] == "" {
			passwords[user], fresh = mail.Secret(rand.Text()[:16]), true
		}
		fmt.Fprintf(&text, "%s %s\n", user, passwords[user].Reveal())
	}
	if !fresh {
		return passwords, nil
	}
	if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
		return nil, fmt.Errorf("keep passwords: %w", err)
	}
	return passwords, nil
}

// demoPageText is what the demo says once it runs.
const demoPageText = `mox-like serves example.test on this machine. Everything is kept in
{{.Dir}}

  user                password
{{range .Users}}  {{printf "%-18s" .Name}}  {{.Password}}
{{end}}
Paste these into another terminal:

# a stranger writes to alice
swaks --server {{.SMTP}} --from stranger@example.org --to {{.Alice.Name}} --header {{quote "Subject: Hello"}} --body {{quote "Hello from outside."}}

# alice writes to bob, by TLS and by STARTTLS
swaks --server {{.Submission}} --tlsc --auth PLAIN --auth-user {{.Alice.Name}} --auth-password {{quote .Alice.Password}} --from {{.Alice.Name}} --to {{.Bob.Name}}
swaks --server {{.StartTLS}} -tls --auth PLAIN --auth-user {{.Alice.Name}} --auth-password {{quote .Alice.Password}} --from {{.Alice.Name}} --to {{.Bob.Name}}

# alice reads her first message, bob his
curl -k {{quote .Inbox}} -u {{quote .Alice.Login}}
curl -k {{quote .Inbox}} -u {{quote .Bob.Login}}

# a stranger sends a program: it is held, and released by the id that the list shows
echo 'no program' | swaks --server {{.SMTP}} --from stranger@example.org --to {{.Bob.Name}} --attach-name setup.exe --attach -
{{.Program}} quarantine list --config {{quote .File}}
{{.Program}} quarantine release ID --config {{quote .File}}

# why was that so, and how often?
{{.Program}} trace --last 20 --config {{quote .File}}
{{.Program}} stats --config {{quote .File}}

What each handler says to each message and login comes here. Ctrl-C ends the demo.

`

var demoPage = template.Must(template.New("demo").Funcs(template.FuncMap{"quote": shellQuote}).Parse(demoPageText))

// demoPageData fills in the page.
type demoPageData struct {
	Program, Dir, File                string
	Users                             []demoUser
	Alice, Bob                        demoUser
	SMTP, Submission, StartTLS, Inbox string
}

type demoUser struct{ Name, Password, Login string }

func newDemoPage(o *DemoOptions, file string, passwords map[string]mail.Secret) demoPageData {
	executable, _ := os.Executable() // "" where the system does not tell
	page := demoPageData{
		Program: program(executable, os.Args[0]),
		Dir:     filepath.Dir(file), File: file,
		SMTP:       loopback(o.Ports.SMTP),
		Submission: loopback(o.Ports.Submission),
		StartTLS:   loopback(o.Ports.StartTLS),
		Inbox:      "imaps://" + loopback(o.Ports.IMAP) + "/INBOX;MAILINDEX=1",
	}
	for _, name := range demoUsers {
		password := passwords[name].Reveal()
		page.Users = append(page.Users, demoUser{Name: name, Password: password, Login: name + ":" + password})
	}
	page.Alice, page.Bob = page.Users[0], page.Users[1]
	return page
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// goRun is where 'go run' puts programs: below a temporary directory, or in the
// build cache, which may be anywhere.
var goRun = regexp.MustCompile(`/go-build[0-9]*/|/[0-9a-f]{64}-d/[^/]+$`)

// program is how this program is run from another terminal: as it was here.
func program(executable, called string) string {
	switch {
	case goRun.MatchString(filepath.ToSlash(executable)):
		return "go run ./cmd/mox-like"
	case strings.ContainsFunc(called, func(r rune) bool {
		return !strings.ContainsRune("/.-_", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}):
		return shellQuote(called)
	default:
		return called
	}
}

// shellQuote makes one word of a text for a POSIX shell.
func shellQuote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
