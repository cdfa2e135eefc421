// Command large measures what memory large messages take: it starts the server
// with a chain that checks who sent a message, has a real clamd scan it and looks
// at its attachments, sends many messages at once, and samples the server's
// memory. Then the same goes by submission, over TLS, where messages are signed.
// See the README in the folder above.
//
// All messages are under way together: none ends before each has begun. Every one
// must be accepted, and one of each kind is read back by IMAP and compared byte for
// byte.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/mox-like/mox-like/bench/proc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "large:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	dir      string
	binary   string
	messages int
	size     int
	scans    int
	limit    int
	duration time.Duration
}

func parse(args []string, output io.Writer) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("large", flag.ContinueOnError)
	f.SetOutput(output)
	f.StringVar(&o.dir, "dir", os.TempDir(), "directory for the server, clamd and the mail; all is removed in the end")
	f.StringVar(&o.binary, "mox-like", "", "mox-like's binary; without it, it is built from this source")
	f.IntVar(&o.messages, "messages", 50, "how many messages are sent at once, by each listener")
	f.IntVar(&o.size, "size", 25_000_000, "size of each message in bytes, at least")
	f.IntVar(&o.scans, "scans", 10, "how many messages clamd scans at once")
	f.IntVar(&o.limit, "limit", 300, "MB of memory beyond which the run fails; 0 for none")
	f.DurationVar(&o.duration, "duration", 5*time.Minute, "how long all may take")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 || o.messages < 1 || o.messages > 1000 || o.size < 10_000 || o.size > 200_000_000 || o.scans < 1 || o.scans > 100 || o.limit < 0 {
		return nil, fmt.Errorf("arguments %q: there are only flags; messages are 1 to 1000 of 10 kB to 200 MB, scans 1 to 100", args)
	}
	return o, nil
}

// result is what one load cost.
type result struct {
	load    string
	took    time.Duration
	cpu     time.Duration
	before  memory        // when the load begins
	peak    memory        // the most
	anon    int64         // the most memory without that of files, in kB
	longest time.Duration // from the end of a message to the answer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	if err := o.checkDisk(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "large-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.binary == "" {
		if o.binary, err = proc.Build(ctx, dir); err != nil {
			return err
		}
	}
	s, err := start(ctx, o, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	var results []result
	for _, l := range s.loads(o) {
		r, err := measure(ctx, s, l)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		results = append(results, r)
		if err := s.check(ctx, l); err != nil {
			return fmt.Errorf("%s: read a message back: %w", l.name, err)
		}
	}
	return o.report(stdout, results)
}

// checkDisk asks for room for what the run writes: each message is in the spool
// and in the mailbox, by both listeners, and once with clamd while that scans it.
func (o *options) checkDisk() error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(o.dir, &fs); err != nil {
		return fmt.Errorf("look for free space in %s: %w", o.dir, err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	need := int64(o.size) * int64(3*o.messages+2*o.scans+10)
	if free < need {
		return fmt.Errorf("%s has %d MB free, and the run may need %d MB: name another --dir, or fewer --messages", o.dir, free/1e6, need/1e6)
	}
	return nil
}

// report prints a Markdown table, and fails when the memory was more than it may.
func (o *options) report(w io.Writer, results []result) error {
	fmt.Fprintf(w, "%d messages of %d bytes at once, clamd scans %d at once\n\n", o.messages, o.size, o.scans)
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| load\t| resident before, MB\t| peak, MB\t| of it without files, MB\t| took\t| the last answer after\t| CPU s\t|")
	fmt.Fprintln(t, "|---\t|---:\t|---:\t|---:\t|---:\t|---:\t|---:\t|")
	var err error
	for _, r := range results {
		fmt.Fprintf(t, "| %s\t| %.0f\t| %.0f\t| %.0f\t| %.1f s\t| %.1f s\t| %.1f\t|\n", r.load, megabytes(r.before.resident), megabytes(r.peak.most),
			megabytes(r.anon), r.took.Seconds(), r.longest.Seconds(), r.cpu.Seconds())
		if o.limit > 0 && megabytes(r.peak.most) > float64(o.limit) {
			err = errors.Join(err, fmt.Errorf("%s took %.0f MB, more than %d", r.load, megabytes(r.peak.most), o.limit))
		}
	}
	return errors.Join(t.Flush(), err)
}

func megabytes(kB int64) float64 { return float64(kB) * 1024 / 1e6 }
