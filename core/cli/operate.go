package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
)

// operate lets do act on the data directory, whether a server runs on it or not.
func (o *ConfigOptions) operate(ctx context.Context, s Streams, do func(ops control.Operations) error) (err error) {
	ops, err := o.connect(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ops.Close()) }()
	return do(ops)
}

// pages calls show for each entry of a list that comes in pages, at most limit of
// them; 0 means all.
func pages[T any](limit int, list func(control.Page) ([]T, string, error), show func(T) error) error {
	page := control.Page{Limit: control.MaxPage}
	for shown := 0; ; {
		if limit > 0 {
			page.Limit = min(limit-shown, control.MaxPage)
		}
		entries, next, err := list(page)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := show(e); err != nil {
				return err
			}
		}
		if shown += len(entries); next == "" || limit > 0 && shown >= limit {
			return nil
		}
		page.After = next
	}
}

// table prints entries in columns that line up, or as one JSON object a line.
type table struct {
	columns *tabwriter.Writer
	json    *json.Encoder // nil for people
}

func newTable(w io.Writer, asJSON bool) *table {
	if asJSON {
		return &table{json: newJSON(w)}
	}
	return &table{columns: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
}

// row prints one entry: object for programs, the cells for people. What comes
// from strangers is made harmless.
func (t *table) row(object any, cells ...string) error {
	if t.json != nil {
		if err := t.json.Encode(object); err != nil {
			return fmt.Errorf("print entry: %w", err)
		}
		return nil
	}
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(harmless(c), "\t", " ")
	}
	_, err := fmt.Fprintln(t.columns, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	return err
}

// end prints what is held back to line it up.
func (t *table) end() error {
	if t.json != nil {
		return nil
	}
	return t.columns.Flush()
}

// moment gives a time for people, never if it is zero.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format(time.DateTime)
}

// until says in words when something ends.
func until(t time.Time) string {
	if t.IsZero() {
		return "for good"
	}
	return "until " + moment(t)
}

// span is the value of a flag: a time span such as 30d; the zero one means none.
type span struct{ time.Duration }

// Set implements pflag.Value.
func (p *span) Set(text string) error {
	d, err := config.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("it must be longer than nothing")
	}
	p.Duration = d
	return err
}

// String and Type complete pflag.Value.
func (p *span) String() string {
	if p.Duration == 0 {
		return ""
	}
	return config.FormatDuration(p.Duration)
}

// Type is what the help calls the value.
func (*span) Type() string { return "duration" }

// from gives the end of a span that begins at now, zero if there is none.
func (p *span) from(now time.Time) time.Time {
	if p.Duration == 0 {
		return time.Time{}
	}
	return now.Add(p.Duration)
}

// parseNetwork reads a network, or an address alone.
func parseNetwork(text string) (netip.Prefix, error) {
	if network, err := netip.ParsePrefix(text); err == nil {
		if masked := network.Masked(); masked != network {
			return netip.Prefix{}, fmt.Errorf("%s is an address and a length; the network is %s", text, masked)
		}
		return network, nil
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q: write an address, as 192.0.2.1, or a network, as 192.0.2.0/24", text)
	}
	return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), nil
}
