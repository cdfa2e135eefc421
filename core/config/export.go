package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Edit puts settings into a block that is nested in one at the top of a file.
type Edit struct {
	// At is the header of the block at the top, its DefRange; the zero value makes a
	// new one of Type and Label at the end of the main file.
	At          hcl.Range
	Type, Label string
	// Nested and NestedLabel name the block with the settings, which is made where it
	// is missing.
	Nested, NestedLabel string
	// Settings replace those of the same names, and stand beside the others.
	Settings []Given
}

// indent is what a level of blocks is indented by.
const indent = "  "

// Edited gives the texts of the files that the edits change, by name. All else
// stays as it is written, comments too. Edits of one block at the top that is new
// have the same label.
func (f *File) Edited(edits []Edit) (map[string][]byte, error) {
	of := make(map[string][]Edit)
	for _, e := range edits {
		name := e.At.Filename
		if name == "" {
			name = f.Name
		}
		of[name] = append(of[name], e)
	}
	out := make(map[string][]byte)
	for name, list := range of {
		text, err := editText(f.raw[name], name, list)
		if err != nil {
			return nil, fmt.Errorf("edit %s: %w", name, err)
		}
		out[name] = text
	}
	return out, nil
}

func editText(src []byte, name string, edits []Edit) ([]byte, error) {
	parsed, hds := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if hds.HasErrors() {
		return nil, hds
	}
	original := parsed.Body.(*hclsyntax.Body)
	wide, hds := hclwrite.ParseConfig(unfold(src, original, edits), name, hcl.InitialPos)
	if hds.HasErrors() {
		return nil, hds
	}
	bodies := make(map[hcl.Pos]*hclwrite.Body)
	for i, b := range wide.Body().Blocks() {
		bodies[original.Blocks[i].TypeRange.Start] = b.Body()
	}
	var fresh []Edit
	for _, e := range edits {
		body := bodies[e.At.Start]
		switch {
		case e.At.Filename == "":
			fresh = append(fresh, e)
		case body == nil:
			return nil, fmt.Errorf("there is no block at line %d", e.At.Start.Line)
		default:
			e.apply(body)
		}
	}
	// Bytes of a whole file would format it.
	out := wide.BuildTokens(nil).Bytes()
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	out = append(out, freshBlocks(fresh)...)
	if bytes.Equal(hclwrite.Format(src), src) {
		out = hclwrite.Format(out)
	}
	return out, nil
}

// freshBlocks writes new blocks for edits, one for each label.
func freshBlocks(edits []Edit) []byte {
	var out bytes.Buffer
	for i, e := range edits {
		if i == 0 || edits[i-1].Label != e.Label {
			fmt.Fprintf(&out, "\n%s %q {\n", e.Type, e.Label)
		}
		out.WriteString(e.text())
		if i == len(edits)-1 || edits[i+1].Label != e.Label {
			out.WriteString("}\n")
		}
	}
	return out.Bytes()
}

// text writes the nested block. Values are one line each.
func (e Edit) text() string {
	var text, out strings.Builder
	fmt.Fprintf(&text, "%s %q {\n", e.Nested, e.NestedLabel)
	for _, s := range e.Settings {
		fmt.Fprintf(&text, "%s = %s\n", s.Name, s.Value)
	}
	text.WriteString("}\n")
	for line := range bytes.Lines(hclwrite.Format([]byte(text.String()))) {
		out.WriteString(indent)
		out.Write(line)
	}
	return out.String()
}

// apply sets the attributes in the nested block.
func (e Edit) apply(body *hclwrite.Body) {
	for _, b := range body.Blocks() {
		if !e.names(b.Type(), b.Labels()) {
			continue
		}
		for _, s := range e.Settings {
			if b.Body().GetAttribute(s.Name) != nil {
				b.Body().SetAttributeRaw(s.Name, tokens("x = "+s.Value+"\n").value())
			} else {
				b.Body().AppendUnstructuredTokens(hclwrite.Tokens(tokens(strings.Repeat(indent, 2) + s.Name + " = " + s.Value + "\n")))
			}
		}
		return
	}
	body.AppendUnstructuredTokens(hclwrite.Tokens(tokens(e.text())))
}

// names tells whether a nested block is the one with the settings.
func (e Edit) names(typ string, labels []string) bool {
	return typ == e.Nested && slices.Equal(labels, []string{e.NestedLabel})
}

// written are the tokens of a piece of a file.
type written hclwrite.Tokens

func tokens(text string) written {
	f, _ := hclwrite.ParseConfig([]byte(text), "", hcl.InitialPos)
	all := f.BuildTokens(nil)
	return written(slices.DeleteFunc(all, func(t *hclwrite.Token) bool { return t.Type == hclsyntax.TokenEOF }))
}

// value gives the tokens between the equals sign of an attribute and its line end.
func (w written) value() hclwrite.Tokens { return hclwrite.Tokens(w[2 : len(w)-1]) }

// unfold writes the blocks to which edits add something, where they stand in one
// line, in several.
func unfold(src []byte, body *hclsyntax.Body, edits []Edit) []byte {
	of := make(map[hcl.Pos][]Edit)
	for _, e := range edits {
		if e.At.Filename != "" {
			of[e.At.Start] = append(of[e.At.Start], e)
		}
	}
	var cuts []cut
	for _, b := range body.Blocks {
		list := of[b.TypeRange.Start]
		if list == nil {
			continue
		}
		cuts = append(cuts, cutsOf(b, "")...)
		for _, nested := range b.Body.Blocks {
			if slices.ContainsFunc(list, func(e Edit) bool { return e.names(nested.Type, nested.Labels) }) {
				cuts = append(cuts, cutsOf(nested, indent)...)
			}
		}
	}
	slices.SortFunc(cuts, func(a, b cut) int { return a.at - b.at })
	var out bytes.Buffer
	last := 0
	for _, c := range slices.Compact(cuts) {
		out.Write(bytes.TrimRight(src[last:c.at], " \t"))
		out.WriteString("\n" + c.indent)
		last = c.at
		for last < len(src) && (src[last] == ' ' || src[last] == '\t') {
			last++
		}
	}
	out.Write(src[last:])
	return out.Bytes()
}

// cut is where a line is ended, and how the next one is indented.
type cut struct {
	at     int
	indent string
}

func cutsOf(b *hclsyntax.Block, depth string) []cut {
	open, end := b.OpenBraceRange.End, b.CloseBraceRange.Start
	if open.Line != end.Line {
		return nil
	}
	if len(b.Body.Attributes)+len(b.Body.Blocks) == 0 {
		return []cut{{end.Byte, depth}}
	}
	return []cut{{open.Byte, depth + indent}, {end.Byte, depth}}
}
