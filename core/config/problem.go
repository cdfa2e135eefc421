package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Problem is a mistake in a module's settings that the module itself finds.
type Problem struct {
	// Attribute is where: the name of an attribute or a nested block, with the
	// blocks in front as a path: "tls.cert", "rule[1].key" for the second rule,
	// "address[1]" for the second value of a list. "" means the whole block.
	Attribute string
	// Block is where Attribute stands if it is not the module's own block, such as
	// that of a domain; nil means the module's.
	Block *Block
	// Code is the diagnostic's; "" leaves it to who reports the problem.
	Code string
	// Severity is Error or Warning.
	Severity Severity
	// Message is one line without a full stop.
	Message string
	// Detail says what to do. It may be empty.
	Detail string
}

// Problems is a list of mistakes.
type Problems []Problem

// Errorf adds an error about an attribute, "" for the whole block.
func (ps *Problems) Errorf(attribute, format string, args ...any) {
	*ps = append(*ps, Problem{Attribute: attribute, Message: fmt.Sprintf(format, args...)})
}

// Warnf adds a warning about an attribute, "" for the whole block.
func (ps *Problems) Warnf(attribute, format string, args ...any) {
	*ps = append(*ps, Problem{Attribute: attribute, Severity: Warning, Message: fmt.Sprintf(format, args...)})
}

// Diagnostics gives the problems with their places in the block. code is for
// those that have none.
func (ps Problems) Diagnostics(b *Block, code string) Diagnostics {
	var ds Diagnostics
	for _, p := range ps {
		block := b
		if p.Block != nil {
			block = p.Block
		}
		d := Diagnostic{Severity: p.Severity, Code: p.Code, Summary: p.Message, Detail: p.Detail, Range: block.Place(p.Attribute)}
		if d.Code == "" {
			d.Code = code
		}
		ds = append(ds, d)
	}
	return ds
}

// Place gives the range of the value of an attribute, whose path is written as in
// a Problem, or of the header of the innermost block that the file has on the way
// to it.
func (b *Block) Place(path string) hcl.Range {
	for path != "" {
		var step string
		step, path, _ = strings.Cut(path, ".")
		name, index := cutIndex(step)
		if a, ok := b.Attribute(name); ok && name != step {
			return partRange(a.Expr, []any{index})
		} else if ok {
			return a.Expr.Range()
		}
		nested := b.Blocks(name)
		if index >= len(nested) {
			break
		}
		b = nested[index]
	}
	return b.DefRange
}

// KeyPlace gives the range of a key of an attribute that is a map, or of the
// whole value where the text does not show the key.
func (b *Block) KeyPlace(attribute, key string) hcl.Range {
	if a, ok := b.Attribute(attribute); ok {
		if e, ok := a.Expr.(*hclsyntax.ObjectConsExpr); ok {
			if item, ok := itemOf(e, key); ok {
				return item.KeyExpr.Range()
			}
		}
	}
	return b.Place(attribute)
}

// cutIndex splits "rule[1]".
func cutIndex(step string) (name string, index int) {
	name, rest, ok := strings.Cut(step, "[")
	if !ok {
		return step, 0
	}
	index, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
	if err != nil || index < 0 {
		return name, 0
	}
	return name, index
}
