package blocklist

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// open starts the service on a data directory, "" for memory. What it gives last
// stops it.
func open(t testing.TB, dir string, now func() time.Time) (*Service, *core.Sandbox, func()) {
	t.Helper()
	registry := new(core.Registry)
	registry.Register(new(Service))
	registry.Register(new(Blocklist))
	sandbox, err := core.NewSandbox(t.Context(), core.SandboxOptions{Source: coretest.Base, Registry: registry, DataDir: dir, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		if err := sandbox.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return coretest.Service[*Service](t, sandbox), sandbox, stop
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func add(t testing.TB, s *Service, network, source string, expires time.Time) {
	t.Helper()
	b := control.Block{Network: prefix(network), Source: source, Reason: "test", Expires: expires}
	if err := s.AddBlock(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func importList(t testing.TB, s *Service, source string, expires time.Time, lines ...string) int {
	t.Helper()
	n, err := s.ImportBlocks(t.Context(), source, strings.NewReader(strings.Join(lines, "\n")), expires)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// blocker names the network and the source that block an address, "" if none
// does.
func blockedBy(s *Service, addr string, now time.Time) string {
	b, ok := s.Blocked(netip.MustParseAddr(addr), now)
	if !ok {
		return ""
	}
	return b.Network.String() + " " + b.Source
}

// names gives the networks and sources of blocks.
func names(blocks []control.Block) []string {
	list := []string{}
	for _, b := range blocks {
		list = append(list, b.Network.String()+" "+b.Source)
	}
	return list
}

func sweep(t testing.TB, s *Service, now time.Time, limit int) (removed int) {
	t.Helper()
	err := s.store.Write(t.Context(), func(tx *store.Tx) (err error) {
		removed, err = s.Sweep(tx, now, limit)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return removed
}
