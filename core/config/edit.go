package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Given is a setting that does not come from a file.
type Given struct {
	// Name is the attribute, Value the text of its expression.
	Name, Value string
	// Since is when it was set, for those who ask; zero if it is not known.
	Since time.Time
}

// Equal tells whether both are the same, set at the same time.
func (g Given) Equal(o Given) bool {
	return g.Name == o.Name && g.Value == o.Value && g.Since.Equal(o.Since)
}

// Overlay is a text made of settings that do not come from a file, so that
// diagnostics can point into it.
type Overlay struct {
	file *File
	name string
	text bytes.Buffer
	line int
}

// NewOverlay begins a text of that name. Its expressions know neither the variables
// of the file nor env, file, join and for: who may set a domain's settings must not reach
// what belongs to the server.
func (f *File) NewOverlay(name string) *Overlay { return &Overlay{file: f, name: name, line: 1} }

// Text gives the text as it is so far, for Print.
func (o *Overlay) Text() []byte { return bytes.Clone(o.text.Bytes()) }

// Block adds a block with settings, which can be laid over another by
// Block.Merge.
func (o *Overlay) Block(header, label string, settings []Given) (*Block, Diagnostics) {
	var ds Diagnostics
	block := &hclsyntax.Block{Type: header, Labels: []string{label}}
	body := &hclsyntax.Body{Attributes: make(hclsyntax.Attributes)}
	block.TypeRange = o.write(header)
	o.write(" ")
	block.LabelRanges = []hcl.Range{o.write(fmt.Sprintf("%q", label))}
	o.write(" ")
	block.OpenBraceRange = o.write("{")
	body.SrcRange = block.OpenBraceRange
	o.newline()
	for _, s := range settings {
		a, more := o.attribute(s)
		ds.Append(more)
		if a != nil {
			body.Attributes[s.Name] = a
		}
	}
	block.CloseBraceRange = o.write("}")
	o.newline()
	body.SrcRange.End, body.EndRange = block.CloseBraceRange.End, block.CloseBraceRange
	block.Body = body
	return newBlock(block, o.file.Root.env), ds
}

// attribute adds one line. Each value is parsed on its own, so that none can be
// more than a value.
func (o *Overlay) attribute(s Given) (*hclsyntax.Attribute, Diagnostics) {
	o.write("  ")
	a := &hclsyntax.Attribute{Name: s.Name}
	a.NameRange = o.write(s.Name)
	o.write(" ")
	a.EqualsRange = o.write("=")
	o.write(" ")
	start := o.at()
	written := o.write(s.Value)
	o.newline()
	expr, ds := parseValue(s.Value, o.name, start)
	for i := range ds {
		ds[i].Range.Filename = o.name
		if ds[i].Range.Start.Line != start.Line {
			ds[i].Range = written
		}
	}
	if !hclsyntax.ValidIdentifier(s.Name) {
		ds.Errorf(a.NameRange, "config/unknown-attribute", "%q cannot be the name of an attribute", s.Name).
			WithDetail("Attributes of blocks inside a handler are set in the file.")
	}
	if ds.HasErrors() {
		return nil, ds
	}
	a.Expr, a.SrcRange = expr, hcl.RangeBetween(a.NameRange, written)
	return a, ds
}

func (o *Overlay) at() hcl.Pos {
	return hcl.Pos{Line: o.line, Column: o.column(), Byte: o.text.Len()}
}

// column counts characters like HCL, which counts grapheme clusters; the printer
// goes by bytes.
func (o *Overlay) column() int {
	last := bytes.LastIndexByte(o.text.Bytes(), '\n') + 1
	return len([]rune(string(o.text.Bytes()[last:]))) + 1
}

func (o *Overlay) write(text string) hcl.Range {
	r := hcl.Range{Filename: o.name, Start: o.at()}
	o.text.WriteString(text)
	r.End = o.at()
	return r
}

func (o *Overlay) newline() {
	o.text.WriteByte('\n')
	o.line++
}

// maxOperations bounds the operators and calls of a value that does not come from a
// file: a condition takes time in the square of their number to compile.
const maxOperations = 200

// parseValue reads the expression of a setting that does not come from a file.
func parseValue(text, filename string, start hcl.Pos) (hclsyntax.Expression, Diagnostics) {
	var ds Diagnostics
	whole := hcl.Range{Filename: filename, Start: start, End: start}
	whole.End.Byte += len(text)
	whole.End.Column += len([]rune(text))
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		ds.Errorf(whole, "hcl/syntax", "the value has a line end or another control character").
			WithDetail(`A value is one line. In a string a line end is written as \n.`)
		return nil, ds
	}
	if checkNesting(filename, []byte(text)) != nil {
		ds.Errorf(whole, "config/too-deep", "the brackets of the value nest too deep")
		return nil, ds
	}
	expr, hds := hclsyntax.ParseExpression([]byte(text), filename, start)
	ds.Append(FromHCL("hcl/syntax", hds))
	if ds.HasErrors() {
		return nil, ds
	}
	operations := 0
	hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics { //nolint:errcheck // the visitor gives no errors
		refuseNode(n, &ds)
		switch n.(type) {
		case *hclsyntax.BinaryOpExpr, *hclsyntax.UnaryOpExpr, *hclsyntax.ConditionalExpr, *hclsyntax.FunctionCallExpr, *hclsyntax.ParenthesesExpr:
			operations++
		}
		return nil
	})
	if operations > maxOperations {
		ds.Errorf(whole, "expr/invalid", "the value has %d operations, and more than %d take too long", operations, maxOperations)
	}
	return expr, ds
}

// refuseNode refuses what lets a value reach beyond the domain that it is for.
func refuseNode(n hclsyntax.Node, ds *Diagnostics) {
	switch e := n.(type) {
	case *hclsyntax.FunctionCallExpr:
		if e.Name == "env" || e.Name == "file" {
			ds.Errorf(e.NameRange, "expr/function", "%s cannot be called here", e.Name).
				WithDetail("It would let a setting of a domain read what belongs to the server. Write the value itself.")
		}
		if e.Name == "join" {
			// Its separator stands in the result once for each item: a few inside each other
			// fill the memory, as for does.
			ds.Errorf(e.NameRange, "expr/function", "join cannot be called here").WithDetail("Write the value itself.")
		}
	case *hclsyntax.ScopeTraversalExpr:
		if e.Traversal.RootName() == "var" {
			ds.Errorf(e.SrcRange, "expr/variable", "variables of the file are not known here").
				WithDetail("They may be secrets of the server. Write the value itself.")
		}
	case *hclsyntax.ForExpr:
		// A few of them inside each other make a value that fills the memory.
		ds.Errorf(e.SrcRange, "expr/for", "for cannot be used here").WithDetail("Write the value itself.")
	}
}

// ValueText gives the text of an expression for what a person types as a value: a
// word that is none, such as 10m or monitor, is put in quotes.
func ValueText(typed string) string {
	expr, ds := parseValue(typed, "", hcl.InitialPos)
	for _, d := range ds {
		if slices.Contains([]string{"expr/function", "expr/variable", "expr/for"}, d.Code) {
			return typed // its diagnostic says more than that of a string would
		}
	}
	if !ds.HasErrors() {
		bare, ok := expr.(*hclsyntax.ScopeTraversalExpr)
		if !ok || bare.Traversal.RootName() == "tx" {
			return typed
		}
	}
	if strings.HasPrefix(typed, `"`) || strings.ContainsAny(typed, "{[(") {
		return typed // meant as an expression, with a mistake in it
	}
	return string(hclwrite.TokensForValue(cty.StringVal(typed)).Bytes())
}

// Hidden is what stands for a value that must not be shown.
const Hidden = `"****"`

// Show gives the value of an attribute as the file would have it: evaluated, or as
// it is written where a message is needed for that. Secrets are Hidden. It is ""
// where the block does not have the attribute. sources are the File's, with the
// texts of overlays.
func (b *Block) Show(name string, sources map[string][]byte) string {
	a, ok := b.Attribute(name)
	if !ok {
		return ""
	}
	value, ds := b.environment().evaluate(a.Expr, nil)
	if ds.HasErrors() || !value.IsWhollyKnown() {
		at := a.Expr.Range()
		if src := sources[at.Filename]; at.Start.Byte <= at.End.Byte && at.End.Byte <= len(src) {
			return string(src[at.Start.Byte:at.End.Byte])
		}
		return ""
	}
	if value.ContainsMarked() {
		return Hidden
	}
	return string(hclwrite.TokensForValue(value).Bytes())
}
