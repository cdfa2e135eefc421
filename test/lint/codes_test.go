// Package lint_test holds the catalogue of diagnostics and the corpus of wrong files
// against the whole build.
package lint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core"
)

const root = "../.."

var codeText = regexp.MustCompile(`^[a-z]+/[a-z0-9_-]+$`)

// joined are the codes that the source puts together, by their constant part.
var joined = map[string][]string{
	"config/unknown-": {"config/unknown-handler", "config/unknown-listener", "config/unknown-tls"},
	"domain/":         {"domain/aliases", "domain/catch_all"},
}

// TestEveryCodeHasAPage compares the codes in the source with the pages.
func TestEveryCodeHasAPage(t *testing.T) {
	t.Parallel()
	found := codesIn(t, filepath.Join(root, "core"), filepath.Join(root, "modules"))
	if len(found) < 60 {
		t.Fatalf("the source has %d codes only", len(found))
	}
	for _, namespace := range []string{"handler", "listener", "tls", "domain", "service"} {
		for _, info := range core.DefaultRegistry.Modules(namespace) {
			m := info.New()
			_, validates := m.(core.Validator)
			if _, stages := m.(core.StageValidator); validates || stages {
				found[info.ID] = "its Problems"
			}
		}
	}
	c := catalogue(t)
	for _, code := range slices.Sorted(maps.Keys(found)) {
		if _, ok := c.Page(code); !ok {
			t.Errorf("no page explains %s (%s)", code, found[code])
		}
	}
	for _, p := range c.Pages() {
		if found[p.Code] == "" {
			t.Errorf("the page %s explains what nothing gives", p.Code)
		}
	}
}

// codesIn finds the codes of diagnostics: what stands where one stands in a call of
// Errorf, Warnf, Diagnostics or FromHCL, in a field or variable Code, and in the
// constant of the code that a reload gives.
func codesIn(t *testing.T, folders ...string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				for _, e := range codePlaces(n) {
					for _, code := range codesOf(e) {
						found[code] = fset.Position(e.Pos()).String()
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// codePlaces gives the expressions of a node that are codes.
func codePlaces(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.CallExpr:
		name := ""
		switch f := n.Fun.(type) {
		case *ast.SelectorExpr:
			name = f.Sel.Name
		case *ast.Ident:
			name = f.Name
		}
		switch {
		case (name == "Errorf" || name == "Warnf" || name == "Diagnostics") && len(n.Args) > 1:
			return n.Args[1:2]
		case name == "FromHCL" && len(n.Args) > 0:
			return n.Args[:1]
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
			return []ast.Expr{n.Value}
		}
	case *ast.AssignStmt:
		if s, ok := n.Lhs[0].(*ast.SelectorExpr); ok && s.Sel.Name == "Code" {
			return n.Rhs
		}
	case *ast.ValueSpec:
		if n.Names[0].Name == "NeedsRestart" {
			return n.Values
		}
	}
	return nil
}

// codesOf gives the codes that an expression can be.
func codesOf(e ast.Expr) []string {
	if sum, ok := e.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
		if text, ok := plain(sum.X); ok && strings.Contains(text, "/") {
			if list := joined[text]; list != nil {
				return list
			}
			return []string{text + "…"}
		}
	}
	if text, ok := plain(e); ok && codeText.MatchString(text) {
		return []string{text}
	}
	return nil
}

func plain(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}
