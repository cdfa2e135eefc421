package blocklist

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
)

// texts gives the networks of a list as the command shows them.
func (l *list) texts() []string {
	found := []string{}
	for _, n := range l.behind(netip.Prefix{}, l.len()) {
		found = append(found, n.String())
	}
	return found
}

func TestParseList(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want []string
	}{
		"empty":         {"", []string{}},
		"comments":      {"# a list\n; of two kinds\n\n192.0.2.1 # one\n192.0.2.3;two\n", []string{"192.0.2.1/32", "192.0.2.3/32"}},
		"words behind":  {"192.0.2.0/24 SBL123\n198.51.100.0/24\tUS, spam\n203.0.113.1,bad", []string{"192.0.2.0/24", "198.51.100.0/24", "203.0.113.1/32"}},
		"line ends":     {"\ufeff192.0.2.1\r\n192.0.2.3\r\n2001:db8::1", []string{"192.0.2.1/32", "192.0.2.3/32", "2001:db8::1/128"}},
		"host bits":     {"192.0.2.77/24", []string{"192.0.2.0/24"}},
		"mapped":        {"::ffff:192.0.2.1\n::ffff:198.51.100.0/120", []string{"192.0.2.1/32", "198.51.100.0/24"}},
		"nested":        {"192.0.2.0/25\n192.0.2.0/24\n192.0.2.255\n2001:db8::/32\n2001:db8:1::/48\n2001:db7::/32", []string{"192.0.2.0/24", "2001:db7::/32", "2001:db8::/32"}},
		"range":         {"192.0.2.1-192.0.2.6", []string{"192.0.2.1/32", "192.0.2.2/31", "192.0.2.4/31", "192.0.2.6/32"}},
		"whole range":   {"192.0.2.0 - 192.0.3.255", []string{"192.0.2.0/23"}},
		"end of range":  {"255.255.255.254-255.255.255.255", []string{"255.255.255.254/31"}},
		"one":           {"192.0.2.1-192.0.2.1", []string{"192.0.2.1/32"}},
		"range of IPv6": {"2001:db8::-2001:db8::ffff:ffff:ffff:ffff", []string{"2001:db8::/64"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := parseList(t.Context(), strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, l.texts()); diff != "" {
				t.Errorf("networks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseListRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"word":          {"192.0.2.1\n\nexample.org # not an address", `line 3, "example.org # not an address": this is no network`},
		"prefix":        {"192.0.2.0/33", `line 1, "192.0.2.0/33": this is no network`},
		"zone":          {"fe80::1%eth0", "this is no network"},
		"everything":    {"0.0.0.0/0", "whole internet"},
		"both":          {"::/0", "whole internet"},
		"all, by range": {"0.0.0.0-255.255.255.255", "whole internet"},
		"backwards":     {"192.0.2.9-192.0.2.1", "ends before it begins"},
		"two kinds":     {"192.0.2.1-2001:db8::1", "two kinds of address"},
		"half a range":  {"192.0.2.1-", "this is no network"},
		"control":       {"\x1b[2J", `line 1, "?[2J"`},
		"long":          {"192.0.2.1\n" + strings.Repeat("1", 2*maxLine), "line 2: it is longer than 4096 bytes"},
		"binary":        {strings.Repeat("\x00", 100), "…"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseList(t.Context(), strings.NewReader(tt.text))
			if !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParseListEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := parseList(ctx, strings.NewReader(strings.Repeat("192.0.2.1\n", 5000))); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after the caller is gone", err)
	}
}

// TestFind holds the search against a walk through lists of several blocks.
func TestFind(t *testing.T) {
	t.Parallel()
	var l list
	for i := range 10 * stride {
		l.add(netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i), byte(i * 7), 0, 0}), 16+i%17))
		l.add(netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 7: byte(i / 200), 14: byte(i), 15: byte(i * 3)}), 128-i%3).Masked())
		l.add(netip.PrefixFrom(netip.AddrFrom16([16]byte{7: byte(i % 2), 9: byte(i)}), 100))
	}
	l.finish()
	all := l.behind(netip.Prefix{}, l.len())
	if len(l.v4) < 3*stride || len(l.v6) < 6*stride {
		t.Fatalf("%d and %d networks are too few for the test", len(l.v4), len(l.v6))
	}
	for _, n := range all {
		for _, addr := range []netip.Addr{n.Addr().Prev(), n.Addr(), end(n), end(n).Next()} {
			if !addr.IsValid() {
				continue
			}
			var want netip.Prefix
			for _, o := range all {
				if o.Contains(addr) {
					want = o
				}
			}
			if got, ok := l.find(addr); ok != want.IsValid() || ok && got != want {
				t.Fatalf("find %s: %s %v, want %s", addr, got, ok, want)
			}
		}
	}
}

func FuzzParseList(f *testing.F) {
	f.Add("192.0.2.0/24 # test\n198.51.100.1-198.51.100.9\n2001:db8::/32 ; doc", "192.0.2.7")
	f.Add("0.0.0.1-255.255.255.254", "10.0.0.1")
	f.Add("::1-ffff::", "2001:db8::1")
	f.Add("1.2.3.4\n1.2.3.4/31\n::ffff:1.2.3.4", "1.2.3.5")
	f.Fuzz(func(t *testing.T, text, addr string) {
		l, err := parseList(t.Context(), strings.NewReader(text))
		if err != nil {
			return
		}
		printed := strings.Join(l.texts(), "\n")
		again, err := parseList(t.Context(), strings.NewReader(printed))
		if err != nil {
			t.Fatalf("own print: %v", err)
		}
		if diff := cmp.Diff(l.texts(), again.texts()); diff != "" {
			t.Fatalf("parse of the print (-first +again):\n%s", diff)
		}
		var loaded list
		err = l.parts(func(_, networks []byte) error {
			if !loaded.addPart(networks) {
				return fmt.Errorf("part %x", networks)
			}
			return nil
		})
		loaded.index()
		if diff := cmp.Diff(l.texts(), loaded.texts()); err != nil || diff != "" {
			t.Fatalf("rows: %v (-list +loaded):\n%s", err, diff)
		}
		a, err := netip.ParseAddr(addr)
		if err != nil || a.Zone() != "" {
			return
		}
		a = a.Unmap()
		covered := false
		for _, n := range l.behind(netip.Prefix{}, l.len()) {
			covered = covered || n.Contains(a)
		}
		if _, found := l.find(a); found != covered {
			t.Fatalf("found %s in the list: %v, want %v", a, found, covered)
		}
	})
}
