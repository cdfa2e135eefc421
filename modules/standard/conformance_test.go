package standard_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
)

// TestHandlersConform fails for a handler of the build that does not run the
// conformance suite in the tests of its package.
func TestHandlersConform(t *testing.T) {
	t.Parallel()
	const path = "github.com/mox-like/mox-like/"
	handlers := core.DefaultRegistry.Modules("handler")
	if len(handlers) < 14 {
		t.Fatalf("the build has %d handlers only", len(handlers))
	}
	for _, info := range handlers {
		folder, ok := strings.CutPrefix(reflect.TypeOf(info.New()).Elem().PkgPath(), path)
		if !ok {
			t.Errorf("%s is not of this repository", info.ID)
			continue
		}
		ids, err := suites(os.DirFS(root + "/" + folder))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(ids, info.ID) {
			t.Errorf("no test in %s runs coretest.TestHandler with a HandlerSuite{ID: %q}; it runs those of %q", folder, info.ID, ids)
		}
	}
}

// suites gives the handlers whose conformance suite the tests of a folder run.
func suites(folder fs.FS) ([]string, error) {
	names, err := fs.Glob(folder, "*_test.go")
	var ids []string
	for _, name := range names {
		text, err := fs.ReadFile(folder, name)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		var made []string
		runs := false
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				runs = runs || isOfKit(n.Fun, "TestHandler")
			case *ast.CompositeLit:
				if isOfKit(n.Type, "HandlerSuite") {
					made = append(made, idOf(n))
				}
			}
			return true
		})
		if runs {
			ids = append(ids, made...)
		}
	}
	return ids, err
}

func isOfKit(e ast.Expr, name string) bool {
	selector, ok := e.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != name {
		return false
	}
	pkg, ok := selector.X.(*ast.Ident)
	return ok && pkg.Name == "coretest"
}

// idOf gives the ID in a literal of a suite, "" if it is no plain text.
func idOf(suite *ast.CompositeLit) string {
	for _, element := range suite.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		key, _ := pair.Key.(*ast.Ident)
		value, _ := pair.Value.(*ast.BasicLit)
		if key == nil || value == nil || key.Name != "ID" {
			continue
		}
		id, _ := strconv.Unquote(value.Value)
		return id
	}
	return ""
}

func TestSuites(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte("package p\n" + text)} }
	ids, err := suites(fstest.MapFS{
		"a_test.go": file(`func f() { coretest.TestHandler(t, coretest.HandlerSuite{Config: "a {}", ID: "handler.a"}) }`),
		"b_test.go": file(`func f() { s := coretest.HandlerSuite{ID: "handler.b"}; coretest.TestHandler(t, s) }`),
		"c_test.go": file(`// coretest.TestHandler(t, coretest.HandlerSuite{ID: "handler.c"})`),
		"d_test.go": file(`var d = coretest.HandlerSuite{ID: "handler.d"}`),
		"e_test.go": file(`func f() { other.TestHandler(t, coretest.HandlerSuite{ID: "handler.e"}) }`),
		"f.go":      file(`func f() { coretest.TestHandler(t, coretest.HandlerSuite{ID: "handler.f"}) }`),
	})
	if diff := cmp.Diff([]string{"handler.a", "handler.b"}, ids); diff != "" || err != nil {
		t.Errorf("error %v, suites (-want +got):\n%s", err, diff)
	}
}
