package control_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/store"
)

// keyring is a service that keeps DKIM keys in memory.
type keyring struct {
	mu   sync.Mutex
	keys []control.DKIMKey
}

func (*keyring) Module() core.Info {
	return core.Info{ID: "service.dkim", New: func() core.Module { return new(keyring) }}
}

func (k *keyring) Keys(_ context.Context, d control.DKIMDomain) ([]control.DKIMKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := slices.Clone(k.keys)
	for _, b := range d.Blocks {
		if !b.Managed {
			list = append(list, control.DKIMKey{Domain: d.Name, Selector: b.Selector, State: control.DKIMInFile, File: b.KeyFile})
		}
	}
	return list, nil
}

func (k *keyring) Make(_ context.Context, d control.DKIMDomain, n control.NewDKIMKeys) (*control.DKIMStep, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n.Selector == "taken" {
		return nil, fmt.Errorf("make DKIM keys: %w", store.ErrExists)
	}
	key := control.DKIMKey{Domain: d.Name, Selector: n.Selector, State: control.DKIMActive, Created: created, Since: created, Name: n.Selector + "._domainkey." + d.Name, Value: fmt.Sprint(n.Algorithms)}
	k.keys = append(k.keys, key)
	return &control.DKIMStep{Domain: d.Name, Changed: true, Done: []string{"Made."}, Next: []string{"Publish."}, Publish: []control.DKIMKey{key}}, nil
}

func (*keyring) Rotate(_ context.Context, d control.DKIMDomain, force bool) (*control.DKIMStep, error) {
	return &control.DKIMStep{Domain: d.Name, Waiting: !force, Done: []string{}, Next: []string{"Wait."}}, nil
}

func (*keyring) Check(_ context.Context, d control.DKIMDomain) (*control.DKIMReport, error) {
	return &control.DKIMReport{Domain: d.Name, Findings: []control.DKIMFinding{{Code: "unsigned", Text: "no key", Wrong: true}}, Keys: []control.DKIMKey{}}, nil
}

// keyBlock is a block dkim of a domain.
type keyBlock struct {
	Selector string `config:"selector"`
}

func (*keyBlock) Module() core.Info {
	return core.Info{ID: "domain.dkim", New: func() core.Module { return new(keyBlock) }}
}

func (b *keyBlock) DKIMBlock() control.DKIMBlock {
	return control.DKIMBlock{Managed: b.Selector == "", Selector: b.Selector, KeyFile: "/keys/" + b.Selector}
}

var (
	madeKey = control.DKIMKey{Domain: "example.test", Selector: "s1", State: control.DKIMActive, Created: created, Since: created, Name: "s1._domainkey.example.test", Value: "[ed25519]"}
	fileKey = control.DKIMKey{Domain: "example.test", Selector: "own", State: control.DKIMInFile, File: "/keys/own"}
)

// dkimSteps are the operations on DKIM keys.
var dkimSteps = []step{
	{name: "none but in a file", do: dkimKeys("example.test"), want: []control.DKIMKey{fileKey}},
	{name: "make", do: makeKeys("Example.TEST", control.NewDKIMKeys{Algorithms: []string{"ed25519"}, Selector: "s1"}), want: &control.DKIMStep{
		Domain: "example.test", Changed: true, Done: []string{"Made."}, Next: []string{"Publish."}, Publish: []control.DKIMKey{madeKey},
	}},
	{name: "make what is there", do: makeKeys("example.test", control.NewDKIMKeys{Selector: "taken"}), err: control.ErrExists, text: "make DKIM keys"},
	{name: "make for a stranger", do: makeKeys("example.tset", control.NewDKIMKeys{}), err: control.ErrNotFound, text: "did you mean example.test?"},
	{name: "make for no domain", do: makeKeys("a b", control.NewDKIMKeys{}), err: control.ErrInvalid, text: `"a b" is no domain`},
	{name: "list", do: dkimKeys("example.test"), want: []control.DKIMKey{madeKey, fileKey}},
	{name: "list of a stranger", do: dkimKeys("other.example"), err: control.ErrNotFound, text: `write domain "other.example" {} into the file`},
	{name: "rotate", do: rotateKeys(false), want: &control.DKIMStep{Domain: "example.test", Waiting: true, Done: []string{}, Next: []string{"Wait."}}},
	{name: "rotate by force", do: rotateKeys(true), want: &control.DKIMStep{Domain: "example.test", Done: []string{}, Next: []string{"Wait."}}},
	{name: "check", do: func(ctx context.Context, ops control.Operations) (any, error) {
		r, err := ops.CheckDKIM(ctx, "example.test")
		return []any{r, r.Wrong()}, err
	}, want: []any{&control.DKIMReport{Domain: "example.test", Findings: []control.DKIMFinding{{Code: "unsigned", Text: "no key", Wrong: true}}, Keys: []control.DKIMKey{}}, true}},
	{name: "what is in the trail", do: func(ctx context.Context, ops control.Operations) (any, error) {
		list, _, err := ops.Audit(ctx, control.ChangeFilter{Object: "example.test"}, control.Page{})
		var operations []string
		for _, e := range list {
			operations = append(operations, e.Operation)
		}
		return operations, err
	}, want: []string{"rotate-dkim", "rotate-dkim", "make-dkim-keys"}},
}

// dkimHost makes a data directory with the services, and a domain with keys.
func dkimHost(t *testing.T) *core.Sandbox {
	t.Helper()
	registry := new(core.Registry)
	for _, m := range []core.Module{new(accounts), new(keyring), new(keyBlock), new(control.Service)} {
		registry.Register(m)
	}
	s, err := core.NewSandbox(t.Context(), core.SandboxOptions{
		Source: "server { hostname = \"mx.example.test\" }\ndomain \"example.test\" {\n  dkim {}\n  dkim { selector = \"own\" }\n}\n", Registry: registry,
	})
	if err != nil {
		t.Fatalf("make sandbox: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close sandbox: %v", err)
		}
	})
	return s
}

// TestDKIM runs the steps on both implementations.
func TestDKIM(t *testing.T) {
	t.Parallel()
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		run(t, control.NewLocal(dkimHost(t), "/data", nil), dkimSteps)
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		run(t, connect(t, t.TempDir(), control.NewLocal(dkimHost(t), "/data", nil)), dkimSteps)
	})
}

func dkimKeys(domain string) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) { return ops.DKIMKeys(ctx, domain) }
}

func makeKeys(domain string, n control.NewDKIMKeys) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) {
		return ops.MakeDKIMKeys(ctx, domain, n)
	}
}

func rotateKeys(force bool) func(context.Context, control.Operations) (any, error) {
	return func(ctx context.Context, ops control.Operations) (any, error) {
		return ops.RotateDKIM(ctx, "example.test", force)
	}
}
