// Command ingest compares how fast mail servers take mail in: mox-like,
// Postfix and, as the limit, smtp-sink, which stores nothing. See the README
// in the folder above.
//
// Each measurement has a server of its own that was just started in an empty
// directory, is warmed up, is loaded by smtp-source, and must have stored every
// message in the end. The servers take turns, so that what else happens on the
// machine meets all of them, and the medians of all rounds are printed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mox-like/mox-like/bench/proc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ingest:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	dir         string
	rounds      int
	duration    time.Duration
	servers     []string
	sizes       []int
	sessions    []int
	connections []string
	binary      string
	postfixLog  bool
	attackers   int
	// inbound compares servers that check who sent a message. world is the folder
	// with the messages, "" outside of the namespaces.
	inbound bool
	world   string
}

// signed is the file with the signed message of a size.
func (o *options) signed(size int) string {
	return filepath.Join(o.world, fmt.Sprintf("message-%d", size))
}

// The servers that are compared by default.
const (
	plainServers   = "postfix,mox-like,smtp-sink"
	inboundServers = "filtered,rspamd,inbound"
)

// load is one way of sending mail.
type load struct {
	size     int // of a message, in bytes
	sessions int // at once
	reuse    bool
}

func (l load) String() string {
	return fmt.Sprintf("%d bytes, %s, c=%d", l.size, l.connection(), l.sessions)
}

func (l load) connection() string {
	if l.reuse {
		return "reuse"
	}
	return "new"
}

func parse(args []string, output io.Writer) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("ingest", flag.ContinueOnError)
	f.SetOutput(output)
	f.StringVar(&o.dir, "dir", os.TempDir(), "directory on the disk to be measured; all is removed in the end")
	f.IntVar(&o.rounds, "rounds", 3, "how often each measurement is repeated")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "about how long a measurement lasts")
	servers := f.String("servers", plainServers, "servers to compare; attacked is mox-like while passwords are guessed; --inbound has its own: "+inboundServers)
	f.BoolVar(&o.inbound, "inbound", false, "have the servers check SPF, DKIM and DMARC of signed messages, in namespaces with a DNS of their own")
	f.StringVar(&o.world, "world", "", "used by the program itself")
	f.IntVar(&o.attackers, "attackers", 200, "how many guess passwords at once, each on a connection of its own")
	sizes := f.String("sizes", "4096,102400", "sizes of messages in bytes")
	sessions := f.String("sessions", "1,10,50", "numbers of sessions at once")
	connections := f.String("connections", "new,reuse", "new: a connection for each message; reuse: many messages on each")
	f.StringVar(&o.binary, "mox-like", "", "mox-like's binary; without it, it is built from this source")
	f.BoolVar(&o.postfixLog, "postfix-log", false, "let Postfix write a log; without it, it saves that work")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 || o.rounds < 1 || o.duration <= 0 {
		return nil, fmt.Errorf("arguments %q: there are only flags, and rounds and duration are more than 0", args)
	}
	known := strings.Split(plainServers+",attacked", ",")
	if o.inbound {
		known = strings.Split(inboundServers, ",")
		if *servers == plainServers {
			*servers = inboundServers
		}
	}
	var err error
	if o.servers, err = words(*servers, known...); err != nil {
		return nil, err
	}
	if o.connections, err = words(*connections, "new", "reuse"); err != nil {
		return nil, err
	}
	if o.sizes, err = numbers(*sizes); err != nil {
		return nil, err
	}
	o.sessions, err = numbers(*sessions)
	return o, err
}

func words(list string, known ...string) ([]string, error) {
	given := strings.Split(list, ",")
	for _, w := range given {
		if !slices.Contains(known, w) {
			return nil, fmt.Errorf("%q is not one of %s", w, strings.Join(known, ", "))
		}
	}
	return given, nil
}

func numbers(list string) ([]int, error) {
	var ns []int
	for w := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(w)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number of 1 or more", w)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

func (o *options) loads() []load {
	var loads []load
	for _, size := range o.sizes {
		for _, connection := range o.connections {
			for _, sessions := range o.sessions {
				loads = append(loads, load{size: size, sessions: sessions, reuse: connection == "reuse"})
			}
		}
	}
	return loads
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if o.inbound && o.world == "" {
		return enter(ctx, o, args, stdout, stderr)
	}
	dir, err := os.MkdirTemp(o.dir, "ingest-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // Postfix delivers as another user
		return fmt.Errorf("open directory to Postfix: %w", err)
	}
	ours := slices.Contains(o.servers, "mox-like") || slices.Contains(o.servers, "attacked")
	if ours && o.binary == "" {
		if o.binary, err = proc.Build(ctx, dir); err != nil {
			return err
		}
	}
	if o.inbound {
		world, err := openWorld(ctx, o)
		if err != nil {
			return err
		}
		defer world.close()
	}
	results := make(map[key][]result)
	for round := range o.rounds {
		for _, l := range o.loads() {
			for _, name := range o.servers {
				r, err := measure(ctx, o, name, dir, l)
				if err != nil {
					return fmt.Errorf("measure %s with %s: %w", name, l, err)
				}
				fmt.Fprintf(stderr, "round %d, %s: %s: %.0f messages/s\n", round+1, l, name, r.rate)
				k := key{name, l}
				results[k] = append(results[k], r)
			}
		}
	}
	return report(stdout, o, results)
}
