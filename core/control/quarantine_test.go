package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/store"
)

// heldMail is a service that holds messages, in memory.
type heldMail struct {
	mu      sync.Mutex
	list    []control.Held
	allowed []control.AllowedAuthor
}

const bob = "bob@example.test"

// heldMessages are those that the service begins with, the newest first.
func heldMessages() []control.Held {
	one := control.Held{
		ID: "id1", Received: created, Expires: later, From: "Eve <eve@example.org>", Author: "eve@example.org", Authenticated: "dmarc=pass", Subject: "win",
		MessageID: "<1@example.org>", ReversePath: "bounce@example.org", Handler: "scanner", Reason: "score 7.5 is over 5", Scores: []control.HeldScore{{Handler: "scanner", Points: 7.5}},
		Listener: "mx", RemoteIP: "192.0.2.7", Size: 21, For: []control.HeldFor{{Account: alice, Recipient: "all@example.test"}, {Account: bob, Recipient: "all@example.test"}}, Accounts: 2,
	}
	two := one
	two.ID, two.From, two.Author, two.Authenticated, two.Received = "id2", "", "", "", created.Add(time.Hour)
	two.For, two.Accounts = one.For[1:], 1
	return []control.Held{two, one}
}

const heldContent = "Subject: win\r\n\r\nHello"

func newHeldMail() *heldMail { return &heldMail{list: heldMessages()} }

func (*heldMail) Module() core.Info {
	return core.Info{ID: "service.heldmail", New: func() core.Module { return newHeldMail() }}
}

func (h *heldMail) Held(_ context.Context, f control.HeldFilter, p control.Page) (list []control.Held, next string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.list {
		is := func(one control.HeldFor) bool { return f.User == "" || one.Account == f.User }
		if f.Domain != "" && f.Domain != "example.test" || !strings.Contains(m.ReversePath+m.From, f.From) || m.Received.Before(f.Since) || !slices.ContainsFunc(m.For, is) {
			continue
		}
		if p.After == "" || m.ID < p.After {
			list = append(list, m)
		}
	}
	if len(list) > p.Limit {
		return list[:p.Limit], list[p.Limit-1].ID, nil
	}
	return list, "", nil
}

func (h *heldMail) find(id string) (*control.Held, error) {
	for i := range h.list {
		if h.list[i].ID == id {
			return &h.list[i], nil
		}
	}
	return nil, fmt.Errorf("find message %q: %w", id, store.ErrNotFound)
}

func (h *heldMail) HeldMessage(_ context.Context, id string) (control.HeldMessage, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := h.find(id)
	if err != nil {
		return control.HeldMessage{}, err
	}
	return control.HeldMessage{Held: *m, Header: "Subject: win\r\n"}, nil
}

func (h *heldMail) HeldContent(_ context.Context, id string) (io.ReadCloser, int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	size := int64(len(heldContent))
	if id == "cut" {
		return io.NopCloser(strings.NewReader(heldContent)), size + 1, nil
	}
	if _, err := h.find(id); err != nil {
		return nil, 0, err
	}
	return io.NopCloser(strings.NewReader(heldContent)), size, nil
}

func (h *heldMail) ReleaseHeld(_ context.Context, id, user string) (accounts []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := h.find(id)
	if err != nil {
		return nil, err
	}
	var left []control.HeldFor
	for _, one := range m.For {
		if user == "" || one.Account == user {
			accounts = append(accounts, one.Account)
		} else {
			left = append(left, one)
		}
	}
	if accounts == nil {
		return nil, store.ErrNotFound
	}
	m.For, m.Accounts = left, len(left)
	if len(left) == 0 {
		h.list = slices.DeleteFunc(h.list, func(m control.Held) bool { return m.ID == id })
	}
	return accounts, nil
}

func (h *heldMail) DeleteHeld(ctx context.Context, id, user string) ([]string, error) {
	return h.ReleaseHeld(ctx, id, user)
}

func (h *heldMail) AllowHeld(ctx context.Context, a control.AllowAuthor) (control.AllowedHeld, error) {
	accounts, err := h.ReleaseHeld(ctx, a.ID, a.User)
	if err != nil {
		return control.AllowedHeld{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	one := control.AllowedAuthor{Scope: a.Scope, Sender: a.Sender, Created: created}
	h.allowed = append(h.allowed, one)
	return control.AllowedHeld{Accounts: accounts, Allowed: []control.AllowedAuthor{one}, Authenticated: "dmarc=pass"}, nil
}

func (h *heldMail) AllowedAuthors(_ context.Context, p control.Page) ([]control.AllowedAuthor, string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return page(h.allowed, p, func(a control.AllowedAuthor) string { return a.Scope + a.Sender })
}

func (h *heldMail) DisallowAuthor(_ context.Context, scope, sender string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.allowed)
	h.allowed = slices.DeleteFunc(h.allowed, func(a control.AllowedAuthor) bool { return a.Scope == scope && a.Sender == sender })
	if len(h.allowed) == before {
		return fmt.Errorf("disallow %s for %s: %w", sender, scope, store.ErrNotFound)
	}
	return nil
}

func listHeld(f control.HeldFilter, p control.Page) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) {
		list, next, err := ops.Held(ctx, f, p)
		return listed{list, next}, err
	}
}

// content reads a held message to its end.
func content(id string) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) {
		r, size, err := ops.HeldContent(ctx, id)
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(r)
		if int64(len(raw)) < size {
			err = errors.Join(err, errShort)
		}
		return string(raw), errors.Join(err, r.Close())
	}
}

var errShort = errors.New("the message is cut off")

// quarantineSteps are the operations on held messages.
func quarantineSteps() []step {
	all := heldMessages()
	release := func(user string) func(context.Context, control.Operations) (any, error) {
		return func(ctx context.Context, ops control.Operations) (any, error) {
			return ops.ReleaseHeld(ctx, "id1", user)
		}
	}
	allow := func(a control.AllowAuthor) func(context.Context, control.Operations) (any, error) {
		return func(ctx context.Context, ops control.Operations) (any, error) { return ops.AllowHeld(ctx, a) }
	}
	disallow := func(scope, sender string) func(context.Context, control.Operations) (any, error) {
		return only(func(ctx context.Context, ops control.Operations) error { return ops.DisallowAuthor(ctx, scope, sender) })
	}
	allowed := control.AllowedAuthor{Scope: "all", Sender: "a/b@example.org", Created: created}
	return []step{
		{name: "list", do: listHeld(control.HeldFilter{}, control.Page{}), want: listed{all, ""}},
		{name: "first page", do: listHeld(control.HeldFilter{}, control.Page{Limit: 1}), want: listed{all[:1], "id2"}},
		{name: "second page", do: listHeld(control.HeldFilter{}, control.Page{Limit: 1, After: "id2"}), want: listed{all[1:], ""}},
		{name: "page too long", do: listHeld(control.HeldFilter{}, control.Page{Limit: 1001}), err: control.ErrInvalid},
		{name: "user", do: listHeld(control.HeldFilter{User: "Alice@EXAMPLE.test"}, control.Page{}), want: listed{all[1:], ""}},
		{name: "user who is none", do: listHeld(control.HeldFilter{User: "nobody@example.test"}, control.Page{}), err: control.ErrNotFound, text: "no account has this address"},
		{name: "domain", do: listHeld(control.HeldFilter{Domain: "EXAMPLE.test", From: "Eve"}, control.Page{}), want: listed{all[1:], ""}},
		{name: "since", do: listHeld(control.HeldFilter{Since: created.Add(time.Nanosecond)}, control.Page{}), want: listed{all[:1], ""}},
		{name: "domain of nobody", do: listHeld(control.HeldFilter{Domain: "exampel.test"}, control.Page{}), err: control.ErrNotFound, text: "the domain exampel.test does not live here"},
		{name: "domain without any", do: func(ctx context.Context, ops control.Operations) (any, error) {
			list, next, err := ops.Held(ctx, control.HeldFilter{Domain: "example.org"}, control.Page{})
			return fmt.Sprint(len(list), next), err
		}, want: "0"},
		{name: "no domain", do: listHeld(control.HeldFilter{Domain: "a b"}, control.Page{}), err: control.ErrInvalid},
		{name: "user and domain", do: listHeld(control.HeldFilter{User: alice, Domain: "example.test"}, control.Page{}), err: control.ErrInvalid},
		{name: "show", do: func(ctx context.Context, ops control.Operations) (any, error) { return ops.HeldMessage(ctx, "id1") }, want: control.HeldMessage{Held: all[1], Header: "Subject: win\r\n"}},
		{name: "show nothing", do: func(ctx context.Context, ops control.Operations) (any, error) { return ops.HeldMessage(ctx, "../x") }, err: control.ErrNotFound, text: `"../x"`},
		{name: "content", do: content("id1"), want: heldContent},
		{name: "content of nothing", do: content("id9"), err: control.ErrNotFound},
		{name: "content that is cut off", do: content("cut"), err: errShort},
		{name: "release for one", do: release("Alice@example.test"), want: []string{alice}},
		{name: "release again", do: release(alice), err: control.ErrNotFound},
		{name: "release for nobody", do: release("nobody@example.test"), err: control.ErrNotFound, text: "no account has this address"},
		{name: "release for what is none", do: release("a b"), err: control.ErrInvalid},
		{name: "allow, odd scope", do: allow(control.AllowAuthor{ID: "id1", Scope: "world"}), err: control.ErrInvalid},
		{name: "allow", do: allow(control.AllowAuthor{ID: "id1", Scope: "all", Sender: allowed.Sender}), want: control.AllowedHeld{Accounts: []string{bob}, Allowed: []control.AllowedAuthor{allowed}, Authenticated: "dmarc=pass"}},
		{name: "allow again", do: allow(control.AllowAuthor{ID: "id1"}), err: control.ErrNotFound},
		{name: "allowed", do: func(ctx context.Context, ops control.Operations) (any, error) {
			list, next, err := ops.AllowedAuthors(ctx, control.Page{})
			return listed{list, next}, err
		}, want: listed{[]control.AllowedAuthor{allowed}, ""}},
		{name: "disallow", do: disallow("all", allowed.Sender)},
		{name: "disallow again", do: disallow("all", allowed.Sender), err: control.ErrNotFound},
		{name: "delete", do: func(ctx context.Context, ops control.Operations) (any, error) { return ops.DeleteHeld(ctx, "id2", "") }, want: []string{bob}},
		{name: "delete again", do: func(ctx context.Context, ops control.Operations) (any, error) { return ops.DeleteHeld(ctx, "id2", "") }, err: control.ErrNotFound},
		{name: "audit trail", do: func(ctx context.Context, ops control.Operations) (any, error) {
			list, _, err := ops.Audit(ctx, control.ChangeFilter{}, control.Page{})
			var names []string
			for _, e := range list {
				names = append(names, e.Operation+" "+e.Object)
			}
			return names, err
		}, want: []string{"delete-held id2", "disallow-author a/b@example.org for all", "allow-held id1", "release-held id1 of alice@example.test", "add-user alice@example.test"}},
	}
}

// TestQuarantine runs the steps on both implementations.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	local := func() control.Operations {
		return control.NewLocal(hostWith(t, new(accounts), new(heldMail), new(control.Service)), "/data", nil)
	}
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		run(t, local(), quarantineSteps())
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		run(t, connect(t, t.TempDir(), local()), quarantineSteps())
	})
}

// TestAuditOfMany: the trail has some of the accounts that a change is about, and how
// many there are.
func TestAuditOfMany(t *testing.T) {
	t.Parallel()
	h := newHeldMail()
	for i := range 1000 {
		h.list[0].For = append(h.list[0].For, control.HeldFor{Account: fmt.Sprintf("user%d@example.test", i)})
	}
	host := hostWith(t, new(accounts), new(heldMail), new(control.Service))
	service, err := core.ServiceOf[*heldMail](host)
	if err != nil {
		t.Fatal(err)
	}
	service.list = h.list
	ops := control.NewLocal(host, "/data", nil)
	if list, err := ops.ReleaseHeld(t.Context(), "id2", ""); err != nil || len(list) != 1001 {
		t.Fatalf("released for %d, %v", len(list), err)
	}
	entries, _, err := ops.Audit(t.Context(), control.ChangeFilter{}, control.Page{})
	if err != nil || len(entries) != 1 || len(entries[0].After) > 5000 || !strings.Contains(string(entries[0].After), `"count":1001`) {
		t.Errorf("%d entries, %v: %s", len(entries), err, entries[0].After)
	}
}
