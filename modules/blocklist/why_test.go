package blocklist

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// whyOf gives what blocks an address, a line for each.
func whyOf(t *testing.T, s *Service, addr string) []string {
	t.Helper()
	list, err := s.WhyBlocked(t.Context(), netip.MustParseAddr(addr))
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, b := range list {
		lines = append(lines, strings.Join([]string{b.Network.String(), b.Source, b.Reason, b.Evidence}, " | "))
	}
	return lines
}

// TestWhyNamesSettings finds that what handlers block by their own settings is
// shown as long as they are started, with their exceptions.
func TestWhyNamesSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "blocklist.txt")
	if err := os.WriteFile(file, []byte("203.0.113.0/28\n198.51.100.7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, sandbox, _ := open(t, "", nil)
	add(t, s, "198.51.100.0/24", "admin", time.Time{})
	add(t, s, "203.0.113.1/32", "drop", time.Time{})
	first := loadHandler(t, sandbox, `blocklist {
		networks = ["192.0.2.0/24"]
		file     = "`+file+`"
		allow    = ["198.51.100.7", "203.0.113.0/30", "192.0.2.9"]
		sources  = ["admin"]
	}`)
	// Another configuration takes the place of the first, and both run for a while.
	second := loadHandler(t, sandbox, `blocklist {
		networks = ["192.0.2.0/25"]
		file     = "`+file+`"
	}`)
	const settings, exception = " | settings of test/blocklist | in networks of the configuration | ", "not refused by test/blocklist, whose allow has "
	inFile := " | file " + file + " | in a file that the configuration names | "
	both := map[string][]string{
		"192.0.2.1":    {"192.0.2.0/25" + settings, "192.0.2.0/24" + settings},
		"192.0.2.200":  {"192.0.2.0/24" + settings},
		"203.0.113.9":  {"203.0.113.0/28" + inFile},
		"203.0.113.1":  {"203.0.113.1/32 | drop | test | ", "203.0.113.0/28" + inFile + exception + "203.0.113.0/30"},
		"198.51.100.7": {"198.51.100.7/32" + inFile + exception + "198.51.100.7/32", "198.51.100.0/24 | admin | test | " + exception + "198.51.100.7/32"},
		"198.51.100.8": {"198.51.100.0/24 | admin | test | "},
		"2001:db8::1":  {},
	}
	for addr, want := range both {
		if diff := cmp.Diff(want, whyOf(t, s, addr)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", addr, diff)
		}
	}
	// What another handler has in its settings is no reason to refuse.
	if v := handle(t, second, mail.StageConnect, "192.0.2.200"); v.Action != mail.ActionContinue {
		t.Errorf("refused by the settings of another handler: %s", v.Reason)
	}
	for range 2 { // a handler that was never started is cleaned up too
		if err := first.Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"192.0.2.0/25" + settings}, whyOf(t, s, "192.0.2.1")); diff != "" {
		t.Errorf("after the first handler has gone (-want +got)\n%s", diff)
	}
	if _, err := s.RemoveBlock(t.Context(), prefix("192.0.2.0/25")); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "it is blocked by the settings of test/blocklist: take it out there") {
		t.Errorf("network of the settings removed: %v", err)
	}
}

// holder stands for a service that keeps one network waiting.
type holder struct {
	network netip.Prefix
	err     error
}

func (h *holder) Withheld(addr netip.Addr, _ time.Time) []control.Block {
	if !h.network.Contains(addr) {
		return nil
	}
	return []control.Block{{Network: h.network, Source: "holder", Reason: "waits"}}
}

func (h *holder) ForgetNetwork(_ context.Context, n netip.Prefix) (bool, error) {
	if h.err != nil || n != h.network {
		return false, h.err
	}
	h.network = netip.Prefix{}
	return true, nil
}

// TestOthersHoldNetworks finds that what other services hold against a network is
// shown, and ends with its blocks.
func TestOthersHoldNetworks(t *testing.T) {
	t.Parallel()
	s, _, _ := open(t, "", nil)
	h := &holder{network: prefix("2001:db8::/64")}
	s.others = []withholder{h}
	add(t, s, "2001:db8::/32", "admin", time.Time{})
	want := []string{"2001:db8::/64 | holder | waits | ", "2001:db8::/32 | admin | test | "}
	if diff := cmp.Diff(want, whyOf(t, s, "2001:db8::1")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := s.RemoveBlock(t.Context(), prefix("2001:db8::1/128")); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "only as a part of 2001:db8::/64, by holder") {
		t.Errorf("part of the network removed: %v", err)
	}
	if n, err := s.RemoveBlock(t.Context(), prefix("2001:db8::/64")); n != 0 || err != nil {
		t.Errorf("what is held against the network: %d blocks removed, %v", n, err)
	}
	if _, err := s.RemoveBlock(t.Context(), prefix("2001:db8::/64")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removed again: %v", err)
	}
	h.err = errors.New("disk is gone")
	if n, err := s.RemoveBlock(t.Context(), prefix("2001:db8::/32")); n != 1 || !errors.Is(err, h.err) {
		t.Errorf("%d blocks removed, %v", n, err)
	}
}
