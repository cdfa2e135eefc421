package config

import (
	"bytes"
	"fmt"
	"regexp"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// The parser calls itself for each bracket and each operator, and Go cannot
// recover from a stack that is full. These bounds keep it far from that.
const (
	maxNesting    = 200
	maxExpression = 100_000 // tokens
)

// checkNesting refuses texts that would exhaust the parser's stack.
func checkNesting(filename string, src []byte) Diagnostics {
	var ds Diagnostics
	tokens, _ := hclsyntax.LexConfig(src, filename, hcl.InitialPos)
	depth, inner, run := 0, 0, 0
	for _, t := range tokens {
		run++
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			depth++
		case hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
			inner++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			depth = max(0, depth-1)
		case hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenTemplateSeqEnd:
			depth, inner = max(0, depth-1), max(0, inner-1)
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
			if inner == 0 {
				run = 0
			}
		default:
		}
		if depth > maxNesting || run > maxExpression {
			ds.Errorf(t.Range, "config/too-large", "the text is nested too deeply or an expression is too long").
				WithDetail("Brackets are nested at most %d deep, and an expression has at most %d words and signs.", maxNesting, maxExpression)
			return ds
		}
	}
	return nil
}

// relateDuplicate adds the place of the first attribute, which the parser's
// diagnostic has as text only.
func relateDuplicate(d *Diagnostic, body *hclsyntax.Body, src []byte) {
	name := string(src[d.Range.Start.Byte:d.Range.End.Byte])
	d.Summary = fmt.Sprintf("attribute %q is set twice", name)
	d.Detail = "Remove one of them."
	for body != nil {
		if first, ok := body.Attributes[name]; ok {
			d.Related = []Related{{Message: "the first one stands here", Range: first.NameRange}}
		}
		body = nestedBody(body, d.Range)
	}
}

// nestedBody gives the body of the block in body around a place.
func nestedBody(body *hclsyntax.Body, at hcl.Range) *hclsyntax.Body {
	for _, b := range body.Blocks {
		if b.OpenBraceRange.Start.Byte <= at.Start.Byte && at.Start.Byte < b.CloseBraceRange.End.Byte {
			return b.Body
		}
	}
	return nil
}

var (
	variableStart = regexp.MustCompile(`(?m)^[ \t]*variable\b`)
	blockStart    = regexp.MustCompile(`\n[ \t]*[A-Za-z_][\w-]*[ \t]*("[^"\n]*"[ \t]*)*\{`)
	sensitiveSet  = regexp.MustCompile(`\bsensitive\s*=\s*(\w*)`)
	defaultSet    = regexp.MustCompile(`\bdefault\s*=`)
	openSetting   = regexp.MustCompile(`(?m)^[ \t]*(description|type|sensitive)\s*=`)
)

// maskBroken makes stars of the defaults of sensitive variables in a text that
// does not parse, where only its shape can be told.
func maskBroken(src []byte) []byte {
	out := bytes.Clone(src)
	for _, start := range variableStart.FindAllIndex(src, -1) {
		end := len(src)
		if next := blockStart.FindIndex(src[start[1]:]); next != nil {
			end = start[1] + next[0]
		}
		region := src[start[0]:end]
		set := sensitiveSet.FindSubmatch(region)
		value := defaultSet.FindIndex(region)
		if set == nil || string(set[1]) == "false" || value == nil {
			continue
		}
		stop := len(region)
		if next := openSetting.FindIndex(region[value[1]:]); next != nil {
			stop = value[1] + next[0]
		}
		mask(out[start[0]+value[1] : start[0]+stop])
	}
	return out
}

// mask makes stars of all but white space.
func mask(text []byte) {
	for i, c := range text {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			text[i] = '*'
		}
	}
}
