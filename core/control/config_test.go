package control_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/effective"
	"github.com/mox-like/mox-like/core/tuning"
)

// TestEffectiveConfig: both ways describe the same configuration, without secrets.
func TestEffectiveConfig(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	local := control.NewLocal(offline(t), "/data", nil)
	remote := connect(t, t.TempDir(), local)
	if report, err := local.ChangeDomain(ctx, "example.org", []tuning.Change{set("delay", `"2m"`), set("key", `"hunter2"`)}, ""); err != nil {
		t.Fatalf("change: %v, %v", err, report)
	}
	if report, err := local.ChangeDomain(ctx, "*", []tuning.Change{set("names", `["a"]`)}, ""); err != nil {
		t.Fatalf("change: %v, %v", err, report)
	}
	for _, q := range []effective.Query{{}, {Domain: "Example.ORG"}, {Domain: "example.test", Listener: "mx", Salt: "s"}, {Domain: "*"}} {
		here, err := local.EffectiveConfig(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		there, err := remote.EffectiveConfig(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		var one, other bytes.Buffer
		if err := errors.Join(here.Print(&one), there.Print(&other)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(one.String(), other.String()); diff != "" {
			t.Errorf("%+v (-local +http):\n%s", q, diff)
		}
		if changes := effective.Compare(here, there); len(changes) > 0 {
			t.Errorf("%+v: they differ: %v", q, changes)
		}
		if strings.Contains(one.String(), "hunter2") {
			t.Errorf("%+v: a secret is shown:\n%s", q, one.String())
		}
	}
	checkLayers(t, remote)
	for _, q := range []effective.Query{{Domain: "example.com"}, {Domain: "a b"}, {Listener: "none"}} {
		for name, ops := range map[string]control.Operations{"local": local, "http": remote} {
			if _, err := ops.EffectiveConfig(ctx, q); !errors.Is(err, control.ErrInvalid) {
				t.Errorf("%s: %+v: error %v, want ErrInvalid", name, q, err)
			}
		}
	}
}

// checkLayers: for one domain each value is that of the strongest layer.
func checkLayers(t *testing.T, ops control.Operations) {
	t.Helper()
	c, err := ops.EffectiveConfig(t.Context(), effective.Query{Domain: "example.org", Salt: "s"})
	if err != nil {
		t.Fatal(err)
	}
	type layered struct {
		Text   string
		Source tuning.Source
		Place  string
	}
	got := make(map[string]layered)
	for _, v := range c.Listeners[0].Chain[0].Block.Values {
		got[v.Name] = layered{v.Text, v.Source, v.Place}
		if v.Name == "key" && (!v.Secret || v.Fingerprint == "" || v.Since.IsZero()) {
			t.Errorf("the key is %+v", v)
		}
	}
	want := map[string]layered{
		"delay":    {`"2m"`, tuning.FromDatabase, "database: domain example.org"},
		"names":    {`["a"]`, tuning.FromDatabaseTemplate, "database: domain *"},
		"key":      {`"****"`, tuning.FromDatabase, "database: domain example.org"},
		"on_error": {`"continue"`, tuning.FromDefault, ""},
		"enabled":  {`true`, tuning.FromDefault, ""},
		"mode":     {`"enforce"`, tuning.FromDefault, ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
