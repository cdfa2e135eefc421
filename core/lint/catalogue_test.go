package lint_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/lint"
)

// sieve stands for a module of another repository that explains itself.
type sieve struct {
	pages []config.Page
}

func (s *sieve) Module() core.Info {
	return core.Info{ID: "handler.sieve", New: func() core.Module { return &sieve{pages: s.pages} }}
}

func (s *sieve) Pages() []config.Page { return s.pages }

var _ core.Explainer = (*sieve)(nil)

func TestModulesBringPages(t *testing.T) {
	t.Parallel()
	page := func(code string) []config.Page {
		return []config.Page{{Code: code, Severity: config.Warning, Summary: "A script is wrong."}}
	}
	for name, tt := range map[string]struct {
		pages []config.Page
		fault string
	}{
		"its ID":         {pages: page("handler.sieve")},
		"its name":       {pages: page("sieve/bad-script")},
		"another's name": {pages: page("spf/bad-script"), fault: "is not the module's"},
		"the core's":     {pages: page("chain/no-target"), fault: "is not the module's"},
		"twice":          {pages: append(page("sieve/a"), page("sieve/a")...), fault: "already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := new(core.Registry)
			registry.Register(&sieve{pages: tt.pages})
			c, err := lint.NewCatalogue(registry)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("error %v, want one with %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, ok := c.Page(tt.pages[0].Code)
			if diff := cmp.Diff(tt.pages[0], got); diff != "" || !ok {
				t.Errorf("found: %t (-want +got):\n%s", ok, diff)
			}
		})
	}
}

func TestPagePrint(t *testing.T) {
	t.Parallel()
	p := config.Page{
		Code: "chain/unused", Severity: config.Warning, Summary: "No chain uses it.", Text: "Why.",
		Wrong: "a {\n\n  b {}\n}", Right: "b {}", Within: "chain",
	}
	var b bytes.Buffer
	if err := p.Print(&b); err != nil {
		t.Fatal(err)
	}
	want := `warning[chain/unused]: No chain uses it.

Why.

Wrong, in a chain:

    a {

      b {}
    }

Right:

    b {}

For one place it is silenced by a comment at the line, or above the block:

    # validate:ignore chain/unused: REASON
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for severity, end := range map[config.Severity]string{config.Error: "no comment silences it.\n", config.Warning: "\nNo comment silences it.\n"} {
		b.Reset()
		p := config.Page{Code: "a/b", Severity: severity, Firm: true, Summary: "It is so."}
		if err := p.Print(&b); err != nil || !strings.HasSuffix(b.String(), end) {
			t.Errorf("error %v in\n%s", err, b.String())
		}
	}
}

// TestPagesAreWhole fails for a page that lacks its text.
func TestPagesAreWhole(t *testing.T) {
	t.Parallel()
	c, err := lint.NewCatalogue(new(core.Registry))
	if err != nil {
		t.Fatal(err)
	}
	list := c.Pages()
	if len(list) < 100 {
		t.Errorf("there are %d pages only", len(list))
	}
	for _, p := range list {
		if !strings.HasSuffix(p.Summary, ".") || len(p.Summary) > 100 {
			t.Errorf("%s: the summary %q is no sentence of one line", p.Code, p.Summary)
		}
		if p.Text == "" && p.Wrong == "" {
			t.Errorf("%s: the page says nothing beyond its summary", p.Code)
		}
	}
	if got := c.Suggest("chain/no-tarket"); got != "chain/no-target" {
		t.Errorf("suggested %q", got)
	}
}
