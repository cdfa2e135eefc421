package lint

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
)

//go:embed pages/*.md
var texts embed.FS

// Catalogue holds the pages of a build. It does not change.
type Catalogue struct {
	pages map[string]config.Page
	// ids are the modules of the build: what a module says without a code has its.
	ids map[string]bool
}

// NewCatalogue gathers the pages of the core and those of the modules. The error is
// of a module whose pages are not its own.
func NewCatalogue(registry *core.Registry) (*Catalogue, error) {
	c := &Catalogue{pages: make(map[string]config.Page), ids: make(map[string]bool)}
	files, err := fs.Glob(texts, "pages/*.md")
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		text, err := texts.ReadFile(name)
		if err != nil {
			return nil, err
		}
		list, err := parsePages(string(text))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		for _, p := range list {
			if _, ok := c.pages[p.Code]; ok {
				return nil, fmt.Errorf("read %s: two pages for %s", name, p.Code)
			}
			c.pages[p.Code] = p
		}
	}
	for _, namespace := range []string{"handler", "listener", "tls", "domain", "service"} {
		for _, info := range registry.Modules(namespace) {
			c.ids[info.ID] = true
			if err := c.addModule(info); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

func (c *Catalogue) addModule(info core.Info) error {
	e, ok := info.New().(core.Explainer)
	if !ok {
		return nil
	}
	for _, p := range e.Pages() {
		switch _, taken := c.pages[p.Code]; {
		case p.Code != info.ID && !strings.HasPrefix(p.Code, info.Name()+"/"):
			return fmt.Errorf("read pages of %s: the code %q is not the module's: it is %s, or begins with %s/", info.ID, p.Code, info.ID, info.Name())
		case taken:
			return fmt.Errorf("read pages of %s: there is a page for %s already", info.ID, p.Code)
		}
		c.pages[p.Code] = p
	}
	return nil
}

// Page gives the page of a code.
func (c *Catalogue) Page(code string) (config.Page, bool) {
	p, ok := c.pages[code]
	return p, ok
}

// Pages gives all of them by code.
func (c *Catalogue) Pages() []config.Page {
	list := make([]config.Page, 0, len(c.pages))
	for _, code := range slices.Sorted(maps.Keys(c.pages)) {
		list = append(list, c.pages[code])
	}
	return list
}

// Suggest gives the code that is most like one that is not there, "" if none is.
func (c *Catalogue) Suggest(code string) string {
	return config.Suggest(code, slices.Sorted(maps.Keys(c.pages)))
}

// known tells whether diagnostics of this build may have the code.
func (c *Catalogue) known(code string) bool {
	_, ok := c.pages[code]
	return ok || c.ids[code]
}

// The lines that structure a page.
var (
	headLine    = regexp.MustCompile(`^(error|warning|firm warning): (\S.*)$`)
	exampleLine = regexp.MustCompile(`^(wrong|right)(?:, in a (chain|login chain|listener|domain))?:$`)
)

// parsePages reads pages: each begins with "## CODE" and a line of severity and
// summary, then has paragraphs, and examples behind "wrong:" and "right:", which are
// indented by four spaces.
func parsePages(text string) ([]config.Page, error) {
	var list []config.Page
	sections := strings.Split("\n"+text, "\n## ")
	for _, section := range sections[1:] {
		p, err := parsePage(section)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func parsePage(section string) (config.Page, error) {
	code, rest, _ := strings.Cut(section, "\n")
	p := config.Page{Code: strings.TrimSpace(code)}
	head, rest, _ := strings.Cut(strings.TrimLeft(rest, "\n"), "\n")
	m := headLine.FindStringSubmatch(head)
	if m == nil {
		return p, fmt.Errorf("%s: %w", p.Code, errNoHead)
	}
	p.Summary, p.Firm = m[2], m[1] == "firm warning"
	if m[1] != "error" {
		p.Severity = config.Warning
	}
	into := &p.Text
	for line := range strings.Lines(rest) {
		if m := exampleLine.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			into = &p.Wrong
			if m[1] == "right" {
				into = &p.Right
			} else {
				p.Within = m[2]
			}
			continue
		}
		if into != &p.Text {
			line = strings.TrimPrefix(line, "    ")
		}
		*into += line
	}
	p.Text = strings.TrimSpace(p.Text)
	p.Wrong, p.Right = strings.Trim(p.Wrong, "\n"), strings.Trim(p.Right, "\n")
	if (p.Wrong == "") != (p.Right == "") {
		return p, fmt.Errorf("%s: %w", p.Code, errOneExample)
	}
	return p, nil
}

var (
	errNoHead     = errors.New("the page has no line of severity and summary")
	errOneExample = errors.New("the page has one example and not the other")
)
