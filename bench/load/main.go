// Command load sends mail over SMTP as cheaply as it can and tells how long a
// server takes for each command and for a whole transaction: the median and the
// 99th percentile. See the README in the folder above.
//
// Each session has a connection, a buffer for replies and the bytes of its
// commands, made before the clock starts. It waits for each reply before it goes
// on, as most clients do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	address     string
	reversePath string
	recipient   string
	sessions    int
	messages    int
	size        int
	reuse       bool
	limit       time.Duration
}

func parse(args []string, output io.Writer) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.SetOutput(output)
	f.StringVar(&o.address, "address", "127.0.0.1:25", "where the server speaks SMTP")
	f.StringVar(&o.reversePath, "from", "bob@example.org", "reverse-path")
	f.StringVar(&o.recipient, "to", "alice@example.test", "recipient")
	f.IntVar(&o.sessions, "sessions", 10, "sessions at once")
	f.IntVar(&o.messages, "messages", 1000, "messages in all")
	f.IntVar(&o.size, "size", 4096, "size of a message in bytes")
	f.BoolVar(&o.reuse, "reuse", false, "send many messages on each connection")
	f.DurationVar(&o.limit, "limit", 2*time.Minute, "end after this time at the latest")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 || o.sessions < 1 || o.messages < o.sessions || o.size < 1 || o.limit <= 0 {
		return nil, fmt.Errorf("arguments %q: there are only flags, all numbers are 1 or more, and each session has a message", args)
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	clients := make([]*client, o.sessions)
	for i := range clients {
		share := o.messages / o.sessions
		if i < o.messages%o.sessions {
			share++
		}
		clients[i] = newClient(o, share)
	}
	failures := make([]error, o.sessions)
	var wg sync.WaitGroup
	began := time.Now()
	for i, c := range clients {
		wg.Go(func() {
			if failures[i] = c.run(ctx); failures[i] != nil {
				cancel() // one refusal makes the figures worthless
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	for _, err := range failures {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	return report(stdout, o, clients, took)
}

// report prints the percentiles as a Markdown table.
func report(w io.Writer, o *options, clients []*client, took time.Duration) error {
	var b strings.Builder
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return fmt.Errorf("read own processor time: %w", err)
	}
	cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	fmt.Fprintf(&b, "%d messages of %d bytes in %d sessions: %.0f messages/s; this program used %s of CPU a message.\n\n",
		o.messages, o.size, o.sessions, float64(o.messages)/took.Seconds(), (cpu / time.Duration(o.messages)).Round(time.Microsecond))
	b.WriteString("| step | count | p50 | p99 | most |\n|---|---:|---:|---:|---:|\n")
	for s := range numSteps {
		var all []time.Duration
		for _, c := range clients {
			all = append(all, c.times[s]...)
		}
		if len(all) == 0 {
			continue
		}
		slices.Sort(all)
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s |\n", stepNames[s], len(all), percentile(all, 50), percentile(all, 99), percentile(all, 100))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// percentile gives the value that p percent do not exceed, of a sorted list that
// is not empty.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1].Round(time.Microsecond)
}
