package config

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Block is a block of the file with its places. It is shared and not changed
// once made.
type Block struct {
	// Type is the word in front, such as "listener".
	Type string
	// Labels are the strings after it.
	Labels []string
	// Body is what stands between the braces.
	Body *hclsyntax.Body
	// DefRange is the header, from the type to the last label.
	DefRange hcl.Range
	// TypeRange is the type.
	TypeRange hcl.Range
	// LabelRanges are the labels', quotes included.
	LabelRanges []hcl.Range

	env *environment
}

func newBlock(b *hclsyntax.Block, env *environment) *Block {
	return &Block{
		Type:        b.Type,
		Labels:      b.Labels,
		Body:        b.Body,
		DefRange:    b.DefRange(),
		TypeRange:   b.TypeRange,
		LabelRanges: b.LabelRanges,
		env:         env,
	}
}

// Label gives the label at i, "" if there is none.
func (b *Block) Label(i int) string {
	if i < len(b.Labels) {
		return b.Labels[i]
	}
	return ""
}

// LabelRange gives the place of the label at i, the header's if there is none.
func (b *Block) LabelRange(i int) hcl.Range {
	if i < len(b.LabelRanges) {
		return b.LabelRanges[i]
	}
	return b.DefRange
}

// Header gives the header as it is written: listener "smtp" "mx".
func (b *Block) Header() string {
	words := []string{b.Type}
	for _, l := range b.Labels {
		words = append(words, strconv.Quote(l))
	}
	return strings.Join(words, " ")
}

// Blocks gives the nested blocks in the order of the file; with types, only
// those of these types.
func (b *Block) Blocks(types ...string) []*Block {
	var list []*Block
	for _, nested := range b.Body.Blocks {
		if len(types) == 0 || slices.Contains(types, nested.Type) {
			list = append(list, newBlock(nested, b.env))
		}
	}
	return list
}

// Attributes gives the attributes in the order of the file.
func (b *Block) Attributes() []*hclsyntax.Attribute {
	return slices.SortedFunc(maps.Values(b.Body.Attributes), func(x, y *hclsyntax.Attribute) int {
		return cmp.Or(
			strings.Compare(x.NameRange.Filename, y.NameRange.Filename),
			cmp.Compare(x.NameRange.Start.Byte, y.NameRange.Start.Byte),
			strings.Compare(x.Name, y.Name),
		)
	})
}

// Attribute gives the attribute of that name.
func (b *Block) Attribute(name string) (*hclsyntax.Attribute, bool) {
	a, ok := b.Body.Attributes[name]
	return a, ok
}

// Merge gives b with the settings of over laid on top: an attribute of over
// replaces b's, and where over has blocks of a type they replace all of b's of
// that type. Every setting keeps its own place in the file.
func (b *Block) Merge(over *Block) *Block {
	body := *b.Body
	body.Attributes = maps.Clone(b.Body.Attributes)
	if body.Attributes == nil {
		body.Attributes = make(hclsyntax.Attributes)
	}
	maps.Copy(body.Attributes, over.Body.Attributes)
	body.Blocks = slices.DeleteFunc(slices.Clone(b.Body.Blocks), func(nested *hclsyntax.Block) bool {
		return slices.ContainsFunc(over.Body.Blocks, func(o *hclsyntax.Block) bool { return o.Type == nested.Type })
	})
	body.Blocks = append(body.Blocks, over.Body.Blocks...)
	merged := *b
	merged.Body = &body
	if merged.env == nil {
		merged.env = over.env
	}
	return &merged
}

// environment gives what the block's expressions see.
func (b *Block) environment() *environment {
	if b.env == nil {
		return newEnvironment(Options{})
	}
	return b.env
}
