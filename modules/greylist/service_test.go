package greylist

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// fill puts n triplets into the database, each of a network of its own, of which
// every second one has passed.
func (k *kit) fill(t testing.TB, n int) {
	t.Helper()
	for i := 0; i < n; {
		err := k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) error {
			for range min(10_000, n-i) {
				e := numbered(i)
				if err := k.service.write(tx, triplet{
					client: e.network(), sender: e.from, recipient: e.to, open: i%2 == 1, first: start, last: start,
					retry: start.Add(5 * time.Minute), expires: start.Add(48 * time.Hour), attempts: 1,
				}); err != nil {
					return err
				}
				i++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// numbered is the event of a number.
func numbered(i int) event {
	return event{
		ip:   netip.AddrFrom4([4]byte{byte(10 + i>>16), byte(i >> 8), byte(i), 1}).String(),
		from: "bob" + letters(i) + "@example.org", to: "alice" + letters(i%1000) + "@example.test",
	}
}

// letters writes a number without digits, which a normal form would lose.
func letters(i int) string {
	b := []byte(strconv.Itoa(i))
	for j := range b {
		b[j] += 'g' - '0'
	}
	return string(b)
}

func (e event) network() string {
	return netip.PrefixFrom(netip.MustParseAddr(e.ip), 24).Masked().String()
}

func TestListInPages(t *testing.T) {
	t.Parallel()
	k := newKit(t, "", coretest.Options{})
	const many = 12_000 // more than two reads look at
	k.fill(t, many)
	tests := []struct {
		name         string
		filter       control.TripletFilter
		limit        int
		pages, total int
	}{
		{"all", control.TripletFilter{}, 0, 12, many},
		{"larger than a page may be", control.TripletFilter{Recipient: "example.test"}, 100_000, 12, many},
		{"state", control.TripletFilter{State: "passed"}, 1000, 6, many / 2},
		{"other state", control.TripletFilter{State: "expired"}, 1000, 1, 0},
		{"recipient", control.TripletFilter{Recipient: "Alicen@"}, 10, 2, 12},
		{"sender", control.TripletFilter{Sender: "BOBhhhh@"}, 10, 1, 1},
		{"address in a network", control.TripletFilter{Client: "10.0.7.200"}, 10, 1, 1},
		{"network", control.TripletFilter{Client: "10.0.7.0/24"}, 10, 1, 1},
		{"address of no network", control.TripletFilter{Client: "2001:db8::1"}, 10, 1, 0},
		{"last one", control.TripletFilter{Sender: "bobhhppp@"}, 1, 1, 1}, // 11999
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			seen := make(map[int64]bool)
			page, last, pages := control.Page{Limit: tt.limit}, int64(0), 0
			for {
				list, next, err := k.service.Triplets(t.Context(), tt.filter, page)
				if err != nil {
					t.Fatal(err)
				}
				pages++
				for _, e := range list {
					if e.ID <= last || seen[e.ID] {
						t.Fatalf("id %d comes after %d", e.ID, last)
					}
					last, seen[e.ID] = e.ID, true
				}
				if next == "" {
					break
				}
				page.After = next
			}
			if pages != tt.pages || len(seen) != tt.total {
				t.Errorf("%d entries on %d pages, want %d on %d", len(seen), pages, tt.total, tt.pages)
			}
		})
	}
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	k := newKit(t, "", coretest.Options{})
	_, _, err := k.service.Triplets(t.Context(), control.TripletFilter{State: "open"}, control.Page{})
	if !errors.Is(err, control.ErrInvalid) {
		t.Errorf("list of a state that does not exist: %v", err)
	}
	_, _, err = k.service.Triplets(t.Context(), control.TripletFilter{}, control.Page{After: "x"})
	if !errors.Is(err, control.ErrInvalid) {
		t.Errorf("page behind no id: %v", err)
	}
}

// states gives the id and state of each triplet.
func states(t *testing.T, s *Service) map[int64]string {
	t.Helper()
	list, _, err := s.Triplets(t.Context(), control.TripletFilter{}, control.Page{})
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[int64]string)
	for _, e := range list {
		m[e.ID] = e.State
	}
	return m
}

func TestRelease(t *testing.T) {
	t.Parallel()
	for _, forget := range []bool{false, true} {
		k := newKit(t, "pass_after = 1", coretest.Options{})
		other := event{ip: "192.0.2.1", from: "eve@example.org", to: "alice@example.test"}
		k.waits(t, stranger, "first seen")
		k.waits(t, other, "first seen")
		want := map[int64]string{1: "greylisted", 2: "greylisted"}
		if diff := cmp.Diff(want, states(t, k.service)); diff != "" {
			t.Fatalf("states (-want +got):\n%s", diff)
		}
		if forget {
			k.service.triplets = newRecent[*entry](10)
		}
		if err := k.service.ReleaseTriplet(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		want[1] = "passed"
		if diff := cmp.Diff(want, states(t, k.service)); diff != "" {
			t.Errorf("states after the release (-want +got):\n%s", diff)
		}
		k.Add(29 * 24 * time.Hour)
		k.passes(t, stranger, "the operator released it")
		k.passes(t, stranger, "now 2 times")
		if err := k.service.ReleaseTriplet(t.Context(), 1); err != nil { // changes nothing
			t.Error(err)
		}
		k.flush(t)
		k.waits(t, other, "first seen") // a release is no merit of the client
		k.Add(31 * 24 * time.Hour)
		want = map[int64]string{1: "expired", 2: "expired"}
		if diff := cmp.Diff(want, states(t, k.service)); diff != "" {
			t.Errorf("states at the end (-want +got):\n%s", diff)
		}
		if err := k.service.ReleaseTriplet(t.Context(), 1); err != nil {
			t.Error(err)
		}
		k.passes(t, stranger, "passes")
		if err := k.service.ReleaseTriplet(t.Context(), 3); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("release of what is not there: %v", err)
		}
	}
}

// TestReleaseFails finds that a triplet goes on to wait if its release could not
// be stored.
func TestReleaseFails(t *testing.T) {
	t.Parallel()
	k := newKit(t, "", coretest.Options{})
	k.waits(t, stranger, "first seen")
	k.flush(t)
	run := func(query string) {
		t.Helper()
		err := k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(query)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	run(`CREATE TRIGGER full BEFORE INSERT ON greylist BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`)
	if err := k.service.ReleaseTriplet(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("release: %v", err)
	}
	run(`DROP TRIGGER full`)
	k.waits(t, stranger, "retry 1 is 5m too early")
	if err := k.service.ReleaseTriplet(t.Context(), 1); err != nil {
		t.Error(err)
	}
	k.passes(t, stranger, "the operator released it")
}

// TestReleaseMeetsClient has the client come while its triplet is released, and
// finds that the database has the release.
func TestReleaseMeetsClient(t *testing.T) {
	t.Parallel()
	k := newKit(t, "", coretest.Options{})
	k.waits(t, stranger, "first seen")
	k.flush(t)
	begun, hold := make(chan struct{}), make(chan struct{})
	end := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(end)
	held := make(chan error, 1)
	go func() { // keeps the writer, so that the release and the attempt share a transaction
		held <- k.sandbox.Store().Write(t.Context(), func(*store.Tx) error {
			close(begun)
			<-hold
			return nil
		})
	}()
	<-begun
	released := make(chan error, 1)
	go func() { released <- k.service.ReleaseTriplet(t.Context(), 1) }()
	k.waits(t, stranger, "retry 1 is 5m too early")
	end()
	if err := errors.Join(<-held, <-released); err != nil {
		t.Fatal(err)
	}
	k.flush(t)
	k.service.triplets = newRecent[*entry](10)
	k.passes(t, stranger, "the operator released it")
}

// TestRestart pins what is there after the server was started again.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), coretest.NewClock(start)
	run := func(visit func(k *kit)) {
		s, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, DataDir: dir, Now: c.Now})
		if err != nil {
			t.Fatal(err)
		}
		k := &kit{Clock: c, sandbox: s, service: coretest.Service[*Service](t, s)}
		k.greylist = k.load(t, "")
		visit(k)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		c.Add(10 * time.Minute)
	}
	released := event{ip: "198.51.100.1", from: "carl@example.org", to: "alice@example.test"}
	allowed := event{ip: "203.0.113.1", from: "eve@example.org", to: "alice@example.test"}
	reply := event{ip: "203.0.113.9", from: "dora@example.org", to: "alice@example.test"}
	run(func(k *kit) {
		k.waits(t, stranger, "first seen")
		k.waits(t, released, "first seen")
		if err := k.service.ReleaseTriplet(t.Context(), 2); err != nil {
			t.Error(err)
		}
		if err := k.service.AllowGreylist(t.Context(), control.Allowed{Subject: "203.0.113.1"}); err != nil {
			t.Error(err)
		}
		k.send(t, "alice@example.test", "alice@example.test", mail.Outcome{Verdict: mail.Accept("")}, "dora@example.org")
	})
	run(func(k *kit) {
		checkFigures(t, k.service, 1, 1, 1)
		k.passes(t, stranger, "retry 1 came 10m after")
		k.passes(t, released, "released")
		k.passes(t, allowed, "operator allows 203.0.113.1")
		k.passes(t, reply, "has written to")
	})
	run(func(k *kit) {
		checkFigures(t, k.service, 0, 2, 1)
		k.passes(t, stranger, "now 2 times")
	})
}

func checkFigures(t *testing.T, s *Service, greylisted, passed, allowed float64) {
	t.Helper()
	got := make(map[string]float64)
	for _, f := range s.Measure() {
		got[f.Name] = f.Value
	}
	want := map[string]float64{"greylisted": greylisted, "passed": passed, "allowed": allowed}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
}

// TestNoFsyncOfItsOwn finds that what the handler writes shares the transaction
// of the message, and is there once the message is.
func TestNoFsyncOfItsOwn(t *testing.T) {
	t.Parallel()
	k := newKit(t, "pass_after = 0", coretest.Options{OnDisk: true})
	keep := func() { // as a target does
		if err := k.sandbox.Store().Write(t.Context(), func(*store.Tx) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	const messages = 20
	for i := range messages {
		k.waits(t, numbered(i), "first seen")
	}
	keep()
	k.Add(time.Hour)
	before := k.sandbox.Store().Stats()
	for i := range messages {
		k.passes(t, numbered(i), "retry 1")
		keep()
		var passed int
		err := k.sandbox.Store().Read(t.Context(), func(s *store.Snapshot) error {
			return s.QueryRow(`SELECT count(*) FROM greylist WHERE open = 1`).Scan(&passed)
		})
		if err != nil || passed != i+1 {
			t.Fatalf("%d passes are stored with message %d, %v", passed, i+1, err)
		}
	}
	after := k.sandbox.Store().Stats()
	// What is behind is due after a second in any case, and on a slow machine that
	// may come before the message.
	if groups := after.Groups - before.Groups; groups < messages || groups > 2*messages {
		t.Errorf("%d transactions for %d messages", groups, messages)
	}
	if writes := after.Writes - before.Writes; writes != 3*messages { // message, triplet, client
		t.Errorf("%d writes for %d messages", writes, messages)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	k := newKit(t, "", coretest.Options{})
	k.fill(t, 100) // expire after 2 days
	k.waits(t, stranger, "first seen")
	k.send(t, "alice@example.test", "alice@example.test", mail.Outcome{Verdict: mail.Accept("")}, "bob@example.org")
	k.Add(time.Hour)
	stranger := event{ip: stranger.ip, from: stranger.from, to: "carol@example.test"}
	k.waits(t, stranger, "first seen")
	k.Add(time.Hour)
	k.passes(t, stranger, "retry 1")
	k.flush(t)
	checkFigures(t, k.service, 51, 51, 0)
	sweep := func(limit int) (removed int) {
		err := k.sandbox.Store().Write(t.Context(), func(tx *store.Tx) (err error) {
			removed, err = k.service.Sweep(tx, k.Now(), limit)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return removed
	}
	if n := sweep(1000); n != 0 {
		t.Errorf("%d rows removed before their time", n)
	}
	k.Add(47 * time.Hour)
	for _, want := range []int{40, 40, 21, 0} {
		if n := sweep(40); n != want {
			t.Errorf("%d rows removed, want %d", n, want)
		}
	}
	checkFigures(t, k.service, 0, 1, 0)
	k.Add(30 * 24 * time.Hour)
	if n := sweep(1000); n != 2 { // the triplet and its client
		t.Errorf("%d rows removed, want 2", n)
	}
	k.Add(30 * 24 * time.Hour)
	if n := sweep(1000); n != 1 {
		t.Errorf("%d rows removed, want the correspondent", n)
	}
	checkFigures(t, k.service, 0, 0, 0)
	for _, table := range []string{"greylist", "greylist_clients", "greylist_correspondents"} {
		if n := k.count(t, `SELECT count(*) FROM `+table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	k.waits(t, stranger, "first seen")
}

// TestFlood finds that a flood of triplets is bounded, and forgets none that has
// passed.
func TestFlood(t *testing.T) {
	t.Parallel()
	k := newKit(t, "", coretest.Options{})
	k.waits(t, stranger, "first seen")
	k.Add(time.Hour)
	k.passes(t, stranger, "retry 1")
	k.flush(t)
	const most = 10
	k.service.maxGreylisted = most
	for i := range 10 * most {
		k.waits(t, numbered(i), "first seen")
		k.Add(10 * time.Second)
		k.flush(t)
	}
	if n := k.count(t, `SELECT count(*) FROM greylist WHERE open = 0`); n > most {
		t.Errorf("%d triplets wait, at most %d", n, most)
	}
	checkFigures(t, k.service, float64(k.count(t, `SELECT count(*) FROM greylist WHERE open = 0`)), 1, 0)
	k.passes(t, stranger, "now 2 times")
	k.passes(t, numbered(5*most), "retry 1") // still in memory
}

func TestRecent(t *testing.T) {
	t.Parallel()
	const size = 100
	r := newRecent[int](size)
	name := func(i int) key { return key{byte(i), byte(i >> 8)} }
	for i := range 10 * size {
		r.put(name(i), i)
		for j := max(0, i-size+1); j <= i; j++ {
			if v, ok := r.get(name(j)); !ok || v != j {
				t.Fatalf("%d is forgotten after %d changes", j, i-j)
			}
		}
		if held := len(r.young) + len(r.old); held > 2*size {
			t.Fatalf("%d are held", held)
		}
	}
}
