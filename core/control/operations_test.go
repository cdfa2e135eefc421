package control_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

// step is one operation of a suite, in order.
type step struct {
	name string
	do   func(ctx context.Context, ops control.Operations) (any, error)
	want any    // what it gives
	err  error  // its kind, nil for none
	text string // that the error has
}

// only makes a step's function of an operation that gives nothing.
func only(do func(ctx context.Context, ops control.Operations) error) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) { return nil, do(ctx, ops) }
}

// listed is a page of a list.
type listed struct {
	List any
	Next string
}

const alice = "alice@example.test"

func network(text string) netip.Prefix { return netip.MustParsePrefix(text) }

var (
	later   = time.Date(2099, 1, 2, 3, 4, 5, 6000, time.UTC)
	byAdmin = control.Block{Network: network("192.0.2.0/24"), Source: "admin", Reason: "spam", Evidence: "7 complaints", Created: created, Expires: later}
	single  = control.Block{Network: network("198.51.100.7/32"), Source: "admin", Created: created}
	listA   = control.Block{Network: network("192.0.2.0/25"), Source: "import", Created: created, Expires: later}
	listB   = control.Block{Network: network("2001:db8::/32"), Source: "import", Created: created, Expires: later}
	phone   = control.AppPassword{ID: "id1", Account: alice, Name: "phone", Scopes: []string{"imap"}, Created: created, Expires: later}
	allowed = control.Allowed{Subject: "example.org", Reason: "partner", Created: created}
)

// steps are the operations on what the security modules keep.
var steps = map[string][]step{
	"app passwords": {
		{name: "add", do: func(ctx context.Context, ops control.Operations) (any, error) {
			password, made, err := ops.AddAppPassword(ctx, control.AppPassword{Account: "Alice@EXAMPLE.test", Name: "phone", Scopes: []string{"imap"}, Expires: later})
			return map[string]any{"password": password.Reveal(), "made": made}, err
		}, want: map[string]any{"password": "topsecret-id1", "made": phone}},
		{name: "add without name", do: addApp(alice, ""), err: control.ErrInvalid, text: "it has no name"},
		{name: "add for nobody", do: addApp("nobody@example.test", "phone"), err: control.ErrNotFound, text: `"nobody@example.test"`},
		{name: "add for no address", do: addApp("alice", "phone"), err: control.ErrInvalid, text: `"alice"`},
		{name: "list", do: func(ctx context.Context, ops control.Operations) (any, error) { return ops.AppPasswords(ctx, alice) }, want: []control.AppPassword{phone}},
		{name: "revoke", do: only(func(ctx context.Context, ops control.Operations) error {
			return ops.RevokeAppPassword(ctx, alice, "id1")
		})},
		{name: "revoke again", do: only(func(ctx context.Context, ops control.Operations) error {
			return ops.RevokeAppPassword(ctx, alice, "id1")
		}), err: control.ErrNotFound, text: `"id1"`},
		{name: "revoke odd id", do: only(func(ctx context.Context, ops control.Operations) error {
			return ops.RevokeAppPassword(ctx, alice, "../..")
		}), err: control.ErrNotFound},
	},
	"second factor": {
		{name: "confirm nothing", do: confirm(goodCode), err: control.ErrNotFound},
		{name: "enrol", do: func(ctx context.Context, ops control.Operations) (any, error) {
			e, err := ops.EnrolTOTP(ctx, alice)
			return []string{e.Account, e.Secret.Reveal(), e.URI.Reveal(), e.RecoveryCodes[0].Reveal(), e.RecoveryCodes[1].Reveal()}, err
		}, want: []string{alice, "TOPSECRET", "otpauth://totp/TOPSECRET", "topsecret1", "topsecret2"}},
		{name: "confirm wrong", do: confirm("000000"), err: control.ErrInvalid, text: "the code is wrong"},
		{name: "confirm", do: confirm(goodCode)},
		{name: "enrol again", do: only(func(ctx context.Context, ops control.Operations) error {
			_, err := ops.EnrolTOTP(ctx, alice)
			return err
		}), err: control.ErrExists},
		{name: "append code", do: only(func(ctx context.Context, ops control.Operations) error { return ops.SetAppendCode(ctx, alice, true) })},
		{name: "state", do: func(ctx context.Context, ops control.Operations) (any, error) { return ops.SecondFactor(ctx, alice) }, want: control.SecondFactor{Account: alice, State: "on", AppendCode: true, Enrolled: created, RecoveryCodes: 2}},
		{name: "verify", do: func(ctx context.Context, ops control.Operations) (any, error) {
			return ops.VerifyTOTP(ctx, alice, goodCode)
		}, want: true},
		{name: "verify wrong", do: func(ctx context.Context, ops control.Operations) (any, error) { return ops.VerifyTOTP(ctx, alice, "1") }, want: false},
		{name: "remove", do: only(func(ctx context.Context, ops control.Operations) error { return ops.RemoveTOTP(ctx, alice) })},
		{name: "remove again", do: only(func(ctx context.Context, ops control.Operations) error { return ops.RemoveTOTP(ctx, alice) }), err: control.ErrNotFound},
		{name: "state of nobody", do: func(ctx context.Context, ops control.Operations) (any, error) {
			return ops.SecondFactor(ctx, "nobody@example.test")
		}, err: control.ErrNotFound},
	},
	"blocks": {
		{name: "add", do: addBlock(control.Block{Network: network("192.0.2.77/24"), Reason: "spam", Evidence: "7 complaints", Expires: later})},
		{name: "add in IPv6 form", do: addBlock(control.Block{Network: network("::ffff:198.51.100.7/128")})},
		{name: "add none", do: addBlock(control.Block{}), err: control.ErrInvalid},
		{name: "add all of IPv4 in IPv6 form", do: addBlock(control.Block{Network: network("::ffff:0.0.0.0/95")}), err: control.ErrInvalid, text: "IPv4"},
		{name: "add what is over", do: addBlock(control.Block{Network: network("192.0.2.1/32"), Expires: created}), err: control.ErrInvalid, text: "over"},
		{name: "import", do: importBlocks("import", "192.0.2.0/25\n2001:db8::/32\n"), want: 2},
		{name: "import rubbish", do: importBlocks("import", "192.0.2.0/25\nrubbish\n"), err: control.ErrInvalid, text: "line 2"},
		{name: "import of nobody", do: importBlocks("", "192.0.2.0/25\n"), err: control.ErrInvalid},
		{name: "first page", do: blocks(control.Page{Limit: 3}), want: listed{[]control.Block{byAdmin, listA, single}, "198.51.100.7/32"}},
		{name: "second page", do: blocks(control.Page{Limit: 3, After: "198.51.100.7/32"}), want: listed{[]control.Block{listB}, ""}},
		{name: "page too long", do: blocks(control.Page{Limit: 1001}), err: control.ErrInvalid},
		{name: "page of nothing", do: blocks(control.Page{Limit: -1}), err: control.ErrInvalid},
		{name: "why", do: func(ctx context.Context, ops control.Operations) (any, error) {
			return ops.WhyBlocked(ctx, netip.MustParseAddr("::ffff:192.0.2.1"))
		}, want: []control.Block{byAdmin, listA}},
		{name: "why nothing", do: func(ctx context.Context, ops control.Operations) (any, error) {
			list, err := ops.WhyBlocked(ctx, netip.MustParseAddr("203.0.113.1"))
			return len(list), err
		}, want: 0},
		{name: "why no address", do: func(ctx context.Context, ops control.Operations) (any, error) {
			return ops.WhyBlocked(ctx, netip.Addr{})
		}, err: control.ErrInvalid},
		{name: "remove", do: removeBlock("192.0.2.0/24"), want: 1},
		{name: "remove again", do: removeBlock("192.0.2.0/24"), err: control.ErrNotFound},
	},
	"locks": {
		{name: "first page", do: locks(control.Page{Limit: 1}), want: listed{newSecurity().locks[:1], alice}},
		{name: "second page", do: locks(control.Page{Limit: 1, After: alice}), want: listed{newSecurity().locks[1:], ""}},
		{name: "unlock", do: only(func(ctx context.Context, ops control.Operations) error { return ops.Unlock(ctx, "Alice@Example.test") })},
		{name: "unlock again", do: only(func(ctx context.Context, ops control.Operations) error { return ops.Unlock(ctx, alice) }), err: control.ErrNotFound},
		{name: "unlock no address", do: only(func(ctx context.Context, ops control.Operations) error { return ops.Unlock(ctx, "a b") }), err: control.ErrInvalid},
		{name: "list", do: locks(control.Page{}), want: listed{newSecurity().locks[1:], ""}},
	},
	"greylist": {
		{name: "list", do: triplets(control.TripletFilter{}, control.Page{}), want: listed{newSecurity().list, ""}},
		{name: "page", do: triplets(control.TripletFilter{}, control.Page{Limit: 1}), want: listed{newSecurity().list[:1], "1"}},
		{name: "filter", do: triplets(control.TripletFilter{State: "passed", Client: "example.org", Sender: "bob@example.org", Recipient: "example.test"}, control.Page{}), want: listed{newSecurity().list[1:], ""}},
		{name: "release", do: release(1)},
		{name: "release nothing", do: release(7), err: control.ErrNotFound, text: "release greylist entry 7"},
		{name: "allow", do: allow("example.org", "partner")},
		{name: "allow nobody", do: allow("", ""), err: control.ErrInvalid},
		{name: "allowed", do: func(ctx context.Context, ops control.Operations) (any, error) {
			list, next, err := ops.GreylistAllowed(ctx, control.Page{})
			return listed{list, next}, err
		}, want: listed{[]control.Allowed{allowed}, ""}},
		{name: "disallow", do: disallow("example.org")},
		{name: "disallow again", do: disallow("example.org"), err: control.ErrNotFound},
		{name: "disallow network", do: disallow("192.0.2.0/24"), err: control.ErrNotFound, text: "192.0.2.0/24"},
	},
}

func addApp(address, name string) func(context.Context, control.Operations) (any, error) {
	return only(func(ctx context.Context, ops control.Operations) error {
		_, _, err := ops.AddAppPassword(ctx, control.AppPassword{Account: address, Name: name})
		return err
	})
}

func confirm(code mail.Secret) func(context.Context, control.Operations) (any, error) {
	return only(func(ctx context.Context, ops control.Operations) error { return ops.ConfirmTOTP(ctx, alice, code) })
}

func addBlock(b control.Block) func(context.Context, control.Operations) (any, error) {
	return only(func(ctx context.Context, ops control.Operations) error { return ops.AddBlock(ctx, b) })
}

func removeBlock(text string) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) {
		return ops.RemoveBlock(ctx, network(text))
	}
}

func importBlocks(source, list string) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) {
		return ops.ImportBlocks(ctx, source, strings.NewReader(list), later)
	}
}

func blocks(p control.Page) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) {
		list, next, err := ops.Blocks(ctx, p)
		return listed{list, next}, err
	}
}

func locks(p control.Page) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) {
		list, next, err := ops.Locks(ctx, p)
		return listed{list, next}, err
	}
}

func triplets(f control.TripletFilter, p control.Page) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) {
		list, next, err := ops.Triplets(ctx, f, p)
		return listed{list, next}, err
	}
}

func release(id int64) func(context.Context, control.Operations) (any, error) {
	return only(func(ctx context.Context, ops control.Operations) error { return ops.ReleaseTriplet(ctx, id) })
}

func allow(subject, reason string) func(context.Context, control.Operations) (any, error) {
	return only(func(ctx context.Context, ops control.Operations) error {
		return ops.AllowGreylist(ctx, control.Allowed{Subject: subject, Reason: reason})
	})
}

func disallow(subject string) func(context.Context, control.Operations) (any, error) {
	return only(func(ctx context.Context, ops control.Operations) error { return ops.DisallowGreylist(ctx, subject) })
}

// run does the steps with the account of alice there.
func run(t *testing.T, ops control.Operations, steps []step) {
	t.Helper()
	if err := ops.AddUser(t.Context(), alice, "secret"); err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		got, err := s.do(t.Context(), ops)
		if !errors.Is(err, s.err) || (err == nil) != (s.err == nil) {
			t.Fatalf("%s: error %v, want %v", s.name, err, s.err)
		}
		if err != nil {
			if !strings.Contains(err.Error(), s.text) {
				t.Errorf("%s: error %q does not say %q", s.name, err, s.text)
			}
			continue
		}
		if diff := cmp.Diff(s.want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
	}
}

// TestSecurity runs the steps on both implementations.
func TestSecurity(t *testing.T) {
	t.Parallel()
	for name, steps := range steps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("local", func(t *testing.T) {
				t.Parallel()
				run(t, control.NewLocal(host(t), "/data", nil), steps)
			})
			t.Run("http", func(t *testing.T) {
				t.Parallel()
				run(t, connect(t, t.TempDir(), control.NewLocal(host(t), "/data", nil)), steps)
			})
		})
	}
}

// TestMissing: a build without a module says so on both ways.
func TestMissing(t *testing.T) {
	t.Parallel()
	bare := func(t *testing.T) control.Operations {
		t.Helper()
		return control.NewLocal(hostWith(t, new(accounts), new(control.Service)), "/data", nil)
	}
	for name, ops := range map[string]control.Operations{"local": bare(t), "http": connect(t, t.TempDir(), bare(t))} {
		if _, _, err := ops.Blocks(t.Context(), control.Page{}); !errors.Is(err, control.ErrMissing) || !strings.Contains(err.Error(), "list blocks") {
			t.Errorf("%s: blocks: error %v, want ErrMissing", name, err)
		}
		if _, err := ops.SecondFactor(t.Context(), alice); !errors.Is(err, control.ErrMissing) {
			t.Errorf("%s: second factor: error %v, want ErrMissing", name, err)
		}
	}
	unaudited := control.NewLocal(hostWith(t, new(accounts)), "/data", nil)
	if err := unaudited.AddUser(t.Context(), alice, "secret"); !errors.Is(err, control.ErrMissing) {
		t.Errorf("a change without an audit trail: error %v, want ErrMissing", err)
	}
	if list, err := unaudited.Users(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("there are %d accounts (error %v), want none", len(list), err)
	}
}

var _ core.Module = (*security)(nil)
