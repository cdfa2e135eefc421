package blocklist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/store"
)

func TestBlocked(t *testing.T) {
	t.Parallel()
	c := coretest.NewClock(start)
	s, _, _ := open(t, "", c.Now)
	add(t, s, "192.0.2.0/24", "", time.Time{})
	add(t, s, "192.0.2.7/32", "bruteforce", start.Add(time.Hour))
	add(t, s, "198.51.100.9/32", "bruteforce", start.Add(time.Hour))
	add(t, s, "2001:db8:1::/64", "admin", time.Time{})
	add(t, s, "::ffff:203.0.113.0/120", "admin", time.Time{})
	importList(t, s, "drop", start.Add(2*time.Hour), "198.51.100.0/28", "2001:db8:2::/48", "203.0.113.200-203.0.113.203")
	tests := []struct {
		addr        string
		now, hour   string
		afterTwoHrs string
	}{
		{"192.0.2.1", "192.0.2.0/24 admin", "192.0.2.0/24 admin", "192.0.2.0/24 admin"},
		{"::ffff:192.0.2.1", "192.0.2.0/24 admin", "192.0.2.0/24 admin", "192.0.2.0/24 admin"},
		{"192.0.2.7", "192.0.2.7/32 bruteforce", "192.0.2.0/24 admin", "192.0.2.0/24 admin"},
		{"192.0.3.0", "", "", ""},
		{"198.51.100.9", "198.51.100.9/32 bruteforce", "198.51.100.0/28 drop", ""},
		{"198.51.100.15", "198.51.100.0/28 drop", "198.51.100.0/28 drop", ""},
		{"198.51.100.16", "", "", ""},
		{"198.51.99.255", "", "", ""},
		{"2001:db8:1::ffff", "2001:db8:1::/64 admin", "2001:db8:1::/64 admin", "2001:db8:1::/64 admin"},
		{"2001:db8:1::1%eth0", "2001:db8:1::/64 admin", "2001:db8:1::/64 admin", "2001:db8:1::/64 admin"},
		{"2001:db8:1:1::", "", "", ""},
		{"2001:db8:2:ffff::1", "2001:db8:2::/48 drop", "2001:db8:2::/48 drop", ""},
		{"2001:db8:3::", "", "", ""},
		{"203.0.113.202", "203.0.113.0/24 admin", "203.0.113.0/24 admin", "203.0.113.0/24 admin"},
		{"0.0.0.0", "", "", ""},
		{"255.255.255.255", "", "", ""},
	}
	for _, tt := range tests {
		for hours, want := range []string{tt.now, tt.hour, tt.afterTwoHrs} {
			if got := blockedBy(s, tt.addr, start.Add(time.Duration(hours)*time.Hour)); got != want {
				t.Errorf("%s after %d hours: blocked by %q, want %q", tt.addr, hours, got, want)
			}
		}
	}
	if _, ok := s.Blocked(netip.Addr{}, start); ok {
		t.Error("no address is blocked")
	}
}

func TestBlockedBySources(t *testing.T) {
	t.Parallel()
	s, _, _ := open(t, "", nil)
	add(t, s, "192.0.2.0/24", "bruteforce", time.Time{})
	add(t, s, "192.0.2.7/32", "admin", time.Time{})
	importList(t, s, "drop", time.Time{}, "192.0.2.0/25")
	addr := netip.MustParseAddr("192.0.2.7")
	for source, want := range map[string]string{"bruteforce": "192.0.2.0/24", "admin": "192.0.2.7/32", "drop": "192.0.2.0/25", "other": ""} {
		b, ok := s.BlockedBy(addr, time.Now(), []string{source})
		if got := b.Network.String(); ok != (want != "") || ok && got != want {
			t.Errorf("of %s: %v %s, want %s", source, ok, got, want)
		}
	}
	why, err := s.WhyBlocked(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"192.0.2.7/32 admin", "192.0.2.0/25 drop", "192.0.2.0/24 bruteforce"}, names(why)); diff != "" {
		t.Errorf("why (-want +got):\n%s", diff)
	}
	if why, err := s.WhyBlocked(t.Context(), netip.MustParseAddr("203.0.113.1")); err != nil || why == nil || len(why) > 0 {
		t.Errorf("why of a free address: %v, %v", why, err)
	}
}

// Several sources block one network; each of them has one block of it.
func TestAddReplacesOfOneSource(t *testing.T) {
	t.Parallel()
	c := coretest.NewClock(start)
	s, _, _ := open(t, "", c.Now)
	add(t, s, "192.0.2.1/32", "admin", time.Time{})
	add(t, s, "192.0.2.1/32", "bruteforce", start.Add(time.Hour))
	c.Add(time.Minute)
	b := control.Block{Network: prefix("192.0.2.1/32"), Source: "bruteforce", Reason: "again", Evidence: "bob\x1b[2J", Expires: start.Add(2 * time.Hour)}
	if err := s.AddBlock(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	why, err := s.WhyBlocked(t.Context(), b.Network.Addr())
	if err != nil {
		t.Fatal(err)
	}
	b.Created, b.Evidence = start.Add(time.Minute), "bob?[2J"
	want := []control.Block{{Network: b.Network, Source: "admin", Reason: "test", Created: start}, b}
	if diff := cmp.Diff(want, why, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("blocks (-want +got):\n%s", diff)
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	c := coretest.NewClock(start)
	s, _, _ := open(t, "", c.Now)
	tests := map[string]struct {
		block control.Block
		want  string
	}{
		"no network":     {control.Block{}, "no network"},
		"everything":     {control.Block{Network: prefix("0.0.0.0/0")}, "whole internet"},
		"ended":          {control.Block{Network: prefix("192.0.2.1/32"), Expires: start}, "ended at 2026-11-20T12:00:00Z"},
		"source":         {control.Block{Network: prefix("192.0.2.1/32"), Source: "a b"}, `source is "a b"`},
		"control source": {control.Block{Network: prefix("192.0.2.1/32"), Source: "a\n"}, `source is "a?"`},
		"long source":    {control.Block{Network: prefix("192.0.2.1/32"), Source: strings.Repeat("s", 65)}, "at most 64 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := s.AddBlock(t.Context(), tt.block); !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _, stop := open(t, dir, nil)
	for _, source := range []string{"admin", "bruteforce"} {
		add(t, s, "192.0.2.1/32", source, time.Time{})
	}
	importList(t, s, "drop", time.Time{}, "192.0.2.1", "192.0.2.3", "198.51.100.0/24", "2001:db8::/32")
	importList(t, s, "lone", time.Time{}, "192.0.2.1")
	for network, want := range map[string]int{"192.0.2.1/32": 4, "2001:db8::/32": 1} {
		if n, err := s.RemoveBlock(t.Context(), prefix(network)); n != want || err != nil {
			t.Errorf("remove %s: %d, %v, want %d", network, n, err, want)
		}
	}
	_, err := s.RemoveBlock(t.Context(), prefix("198.51.100.7/32"))
	if !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "part of 198.51.100.0/24, by drop") {
		t.Errorf("remove a part of a network: %v", err)
	}
	if _, err := s.RemoveBlock(t.Context(), prefix("203.0.113.0/24")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("remove what is not blocked: %v", err)
	}
	check := func(s *Service) {
		t.Helper()
		list, next, err := s.Blocks(t.Context(), control.Page{})
		if err != nil || next != "" {
			t.Fatal(next, err)
		}
		if diff := cmp.Diff([]string{"192.0.2.3/32 drop", "198.51.100.0/24 drop"}, names(list)); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
	}
	check(s)
	stop()
	s, _, _ = open(t, dir, nil)
	check(s)
}

// What a call has done is there after a restart, and what has ended is not.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), coretest.NewClock(start)
	s, _, stop := open(t, dir, c.Now)
	add(t, s, "192.0.2.0/24", "admin", time.Time{})
	add(t, s, "192.0.2.0/24", "bruteforce", start.Add(time.Hour))
	add(t, s, "2001:db8::/64", "bruteforce", start.Add(3*time.Hour))
	var lines []string
	for i := range 2*partSize + 1 {
		lines = append(lines, fmt.Sprintf("10.%d.%d.%d", i>>15, i>>7&0xff, i<<1&0xff), fmt.Sprintf("2001:db8:1:%x::/64", i<<1))
	}
	importList(t, s, "drop", start.Add(2*time.Hour), lines...)
	importList(t, s, "old", start.Add(time.Minute), "203.0.113.1")
	before, _, err := s.Blocks(t.Context(), control.Page{})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	s, _, _ = open(t, dir, c.Now)
	after, _, err := s.Blocks(t.Context(), control.Page{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("blocks after a restart (-before +after):\n%s", diff)
	}
	if single, lists := s.view.Load().count(); single != 2 || lists != 2*(2*partSize+1)+1 {
		t.Errorf("%d single networks and %d of lists", single, lists)
	}
	for _, line := range lines {
		n, _ := parseNetwork(line)
		if got := blockedBy(s, n.Addr().String(), start); got != n.String()+" drop" {
			t.Fatalf("%s is blocked by %q after a restart", line, got)
		}
	}
	if got := blockedBy(s, "203.0.113.1", start.Add(time.Hour)); got != "" {
		t.Errorf("blocked by %q after its end", got)
	}
}

func TestBlocksInPages(t *testing.T) {
	t.Parallel()
	s, _, _ := open(t, "", nil)
	importList(t, s, "drop", time.Time{}, "192.0.2.0/25", "192.0.2.128/25", "2001:db8::/32", "198.51.100.1", "10.0.0.0/8")
	importList(t, s, "more", time.Time{}, "192.0.2.0/25", "192.0.2.200")
	add(t, s, "192.0.2.0/25", "admin", time.Time{})
	add(t, s, "192.0.2.0/24", "admin", time.Time{})
	add(t, s, "2001:db8::/32", "zeal", time.Time{})
	want := []string{
		"10.0.0.0/8 drop", "192.0.2.0/24 admin", "192.0.2.0/25 admin", "192.0.2.0/25 drop", "192.0.2.0/25 more", "192.0.2.128/25 drop",
		"192.0.2.200/32 more", "198.51.100.1/32 drop", "2001:db8::/32 drop", "2001:db8::/32 zeal",
	}
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []string
		for p := (control.Page{Limit: limit}); ; {
			list, next, err := s.Blocks(t.Context(), p)
			if err != nil || len(list) > limit {
				t.Fatalf("page of %d: %v", len(list), err)
			}
			got = append(got, names(list)...)
			if p.After = next; next == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	if _, _, err := s.Blocks(t.Context(), control.Page{After: "x"}); !errors.Is(err, control.ErrInvalid) {
		t.Errorf("page behind nonsense: %v", err)
	}
}

// An import takes the place of all that its source had, at once, and of nothing
// else.
func TestImportReplaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _, stop := open(t, dir, nil)
	add(t, s, "192.0.2.1/32", "drop", time.Time{})
	add(t, s, "192.0.2.1/32", "admin", time.Time{})
	if n := importList(t, s, "drop", time.Time{}, "198.51.100.1", "198.51.100.2"); n != 2 {
		t.Errorf("added %d, want 2", n)
	}
	if n := importList(t, s, "drop", time.Time{}, "198.51.100.2", "198.51.100.2/32 ; twice", "198.51.100.0/30 # covers"); n != 1 {
		t.Errorf("added %d, want 1", n)
	}
	_, err := s.ImportBlocks(t.Context(), "drop", strings.NewReader("203.0.113.1\nnonsense\n"), time.Time{})
	if !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), `line 2, "nonsense"`) {
		t.Errorf("import of nonsense: %v", err)
	}
	check := func(s *Service) {
		t.Helper()
		list, _, err := s.Blocks(t.Context(), control.Page{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"192.0.2.1/32 admin", "198.51.100.0/30 drop"}, names(list)); diff != "" {
			t.Errorf("blocks (-want +got):\n%s", diff)
		}
	}
	check(s)
	stop()
	s, _, _ = open(t, dir, nil)
	check(s)
	importList(t, s, "drop", time.Time{}, "# nothing")
	if got := blockedBy(s, "198.51.100.1", time.Now()); got != "" {
		t.Errorf("blocked by %q after an empty import", got)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), coretest.NewClock(start)
	s, _, stop := open(t, dir, c.Now)
	for i := range 5 {
		add(t, s, fmt.Sprintf("192.0.2.%d/32", i), "bruteforce", start.Add(time.Duration(i+1)*time.Minute))
	}
	add(t, s, "192.0.2.0/32", "admin", time.Time{})
	importList(t, s, "drop", start.Add(time.Minute), "198.51.100.1", "2001:db8::1")
	importList(t, s, "kept", time.Time{}, "203.0.113.1")
	if n := sweep(t, s, start, 100); n != 0 {
		t.Errorf("swept %d before any end", n)
	}
	// Four blocks, two parts of the list, and its row.
	total := 0
	for {
		n := sweep(t, s, start.Add(4*time.Minute), 2)
		if n > 2 {
			t.Fatalf("swept %d, the limit is 2", n)
		}
		if total += n; n < 2 {
			break
		}
	}
	if total != 7 {
		t.Errorf("swept %d rows, want 7", total)
	}
	if single, lists := s.view.Load().count(); single != 2 || lists != 1 {
		t.Errorf("in memory are %d single networks and %d of lists", single, lists)
	}
	stop()
	s, _, _ = open(t, dir, c.Now)
	list, _, err := s.Blocks(t.Context(), control.Page{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"192.0.2.0/32 admin", "192.0.2.4/32 bruteforce", "203.0.113.1/32 kept"}, names(list)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

// Look-ups see each list whole or not at all while others change all at once.
func TestConcurrentChanges(t *testing.T) {
	t.Parallel()
	s, _, _ := open(t, t.TempDir(), nil)
	add(t, s, "203.0.113.0/24", "admin", time.Time{})
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			network := fmt.Sprintf("192.0.2.%d/32", w)
			for range 50 {
				add(t, s, network, "bruteforce", time.Time{})
				if blockedBy(s, strings.TrimSuffix(network, "/32"), time.Now()) == "" {
					t.Errorf("%s is not blocked after AddBlock", network)
				}
				if n, err := s.RemoveBlock(t.Context(), prefix(network)); n != 1 || err != nil {
					t.Errorf("remove %s: %d, %v", network, n, err)
				}
			}
		})
	}
	writers.Go(func() {
		for i := range 50 {
			importList(t, s, "drop", time.Time{}, fmt.Sprintf("198.51.%d.0/25", 100+i%2), fmt.Sprintf("198.51.%d.128/25", 100+i%2))
		}
	})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				v := s.view.Load()
				for _, i := range v.imports {
					if len(i.networks.v4) != 2 {
						t.Errorf("a list of %d networks is in force", len(i.networks.v4))
					}
				}
				if blockedBy(s, "203.0.113.9", time.Now()) == "" {
					t.Error("a block is gone while others change")
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if single, lists := s.view.Load().count(); single != 1 || lists != 2 {
		t.Errorf("in the end %d single networks and %d of lists", single, lists)
	}
}

func TestBlockedAllocatesNothing(t *testing.T) {
	s, _, _ := open(t, "", nil)
	add(t, s, "192.0.2.0/24", "admin", time.Time{})
	importList(t, s, "drop", time.Time{}, "198.51.100.0/24", "2001:db8::/32")
	now := time.Now()
	for _, text := range []string{"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "2001:db9::1"} {
		addr := netip.MustParseAddr(text)
		if n := testing.AllocsPerRun(100, func() { s.Blocked(addr, now) }); n != 0 {
			t.Errorf("a look-up of %s makes %v allocations", text, n)
		}
	}
}

// TestOneImportAtATime finds that an import waits for another, as long as its
// caller does.
func TestOneImportAtATime(t *testing.T) {
	t.Parallel()
	s, _, _ := open(t, "", nil)
	r, w := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := s.ImportBlocks(t.Context(), "first", r, time.Time{})
		first <- err
	}()
	if _, err := io.WriteString(w, "192.0.2.1\n"); err != nil { // is read, so that the first has begun
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.ImportBlocks(ctx, "second", strings.NewReader("192.0.2.2\n"), time.Time{}); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "wait for another import") {
		t.Errorf("import beside another: %v", err)
	}
	second := make(chan error, 1)
	go func() {
		_, err := s.ImportBlocks(t.Context(), "second", strings.NewReader("192.0.2.2\n"), time.Time{})
		second <- err
	}()
	if err := errors.Join(w.Close(), <-first, <-second); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"192.0.2.1", "192.0.2.2"} {
		if blockedBy(s, addr, start) == "" {
			t.Errorf("%s is not blocked", addr)
		}
	}
}
