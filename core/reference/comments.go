// Package reference explains the settings of modules. What a setting is called
// and what values it takes comes from the tags of the module's struct; what it is
// for comes from the comments in the module's source, which the program in gen
// gathers into comments.json. The same feeds 'mox-like modules' and
// docs/modules.md.
package reference

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Comments are the comments on structs and their fields, by import path, type
// and field: "example.org/mod/greylist.Greylist.Delay". Under the import path
// alone stands the first paragraph of the package's comment, if it is of the form
// "Package greylist is handler.greylist: …".
type Comments map[string]string

//go:embed comments.json
var standard []byte

// Standard gives the comments of the modules in this repository.
func Standard() (Comments, error) {
	var c Comments
	if err := json.Unmarshal(standard, &c); err != nil {
		return nil, fmt.Errorf("read comments.json: %w", err)
	}
	return c, nil
}

// Module gives what the package of a module says about it, else the comment on
// its struct, "" if there is neither. Go's names are left out.
func (c Comments) Module(t reflect.Type, id string) string {
	doc := c[t.PkgPath()]
	if about := packageForm.FindStringSubmatch(doc); about != nil && about[1] == id {
		return capital(doc[len(about[0]):])
	}
	return capital(withoutName(c[t.PkgPath()+"."+t.Name()], t.Name()))
}

// packageForm is how the package of one module begins its comment.
var packageForm = regexp.MustCompile(`^Package \w+ is ((?:handler|listener|tls|domain|service)\.\w+)[:,] `)

func capital(text string) string {
	if text == "" {
		return ""
	}
	r, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(r)) + text[size:]
}

// Field gives the comment on a field without the field's name: "Limit is how many
// may pass" is "How many may pass". One that begins with one of the values is not
// capitalised. It is "" if there is no comment.
func (c Comments) Field(t reflect.Type, field string, values []string) string {
	text := withoutName(c[t.PkgPath()+"."+t.Name()+"."+field], field)
	if first, _, _ := strings.Cut(text, " "); slices.Contains(values, strings.Trim(first, ",.:;")) {
		return text
	}
	return capital(text)
}

// withoutName takes the name of what a comment is on from its beginning, and
// what refers to Go from the rest.
func withoutName(text, name string) string {
	if rest, ok := strings.CutPrefix(text, name+" "); ok {
		text = strings.TrimPrefix(strings.TrimPrefix(rest, "is "), "are ")
	}
	return goReference.ReplaceAllString(text, "")
}

// goReference is a remark for those who read the source: ", see mail.ParseDomain".
var goReference = regexp.MustCompile(`,? \(?see [a-z]+\.[A-Z]\w*\)?`)

// Gather reads the comments in the Go files of a source tree, whose root has the
// import path module. It keeps those on packages of one module, and on structs
// that have a method Module or tagged fields.
func Gather(tree fs.FS, module string) (Comments, error) {
	g := gatherer{all: make(Comments), packages: make(Comments), kept: make(map[string]bool)}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		g.file(file, path.Join(module, path.Dir(name)))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("gather comments: %w", err)
	}
	maps.DeleteFunc(g.all, func(key, _ string) bool { return !g.keeps(key) })
	maps.Copy(g.all, g.packages)
	return g.all, nil
}

// gatherer collects the comments of a tree, and which types they are wanted of.
type gatherer struct {
	all      Comments // of structs and fields
	packages Comments
	kept     map[string]bool
}

// keeps tells whether a key is of a wanted type or of one of its fields.
func (g *gatherer) keeps(key string) bool {
	return g.kept[key] || g.kept[key[:strings.LastIndexByte(key, '.')]]
}

func (g *gatherer) file(file *ast.File, pkg string) {
	if doc := file.Doc.Text(); packageForm.MatchString(doc) {
		first, _, _ := strings.Cut(doc, "\n\n")
		g.packages[pkg] = strings.TrimSpace(first)
	}
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Name.Name == "Module" && decl.Recv != nil {
				g.kept[pkg+"."+receiver(decl)] = true
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				if t, ok := spec.(*ast.TypeSpec); ok {
					g.structure(t, decl, pkg+"."+t.Name.Name)
				}
			}
		}
	}
}

// receiver names the type that a method belongs to.
func receiver(method *ast.FuncDecl) string {
	t := method.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if name, ok := t.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

func (g *gatherer) structure(t *ast.TypeSpec, decl *ast.GenDecl, key string) {
	body, ok := t.Type.(*ast.StructType)
	if !ok {
		return
	}
	doc := t.Doc
	if doc == nil {
		doc = decl.Doc
	}
	g.all.add(key, doc)
	for _, f := range body.Fields.List {
		if f.Tag == nil || !strings.Contains(f.Tag.Value, `config:"`) {
			continue
		}
		g.kept[key] = true
		for _, name := range f.Names {
			g.all.add(key+"."+name.Name, f.Doc)
		}
	}
}

func (c Comments) add(key string, doc *ast.CommentGroup) {
	if text := strings.TrimSpace(doc.Text()); text != "" {
		c[key] = text
	}
}

// Encode gives comments as comments.json has them, in the order of their keys.
func Encode(c Comments) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	if err := e.Encode(c); err != nil {
		return nil, fmt.Errorf("encode comments: %w", err)
	}
	return b.Bytes(), nil
}
