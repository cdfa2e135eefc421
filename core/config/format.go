package config

import (
	"bytes"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// maxFormats bounds how often a text is laid out anew until nothing moves.
const maxFormats = 8

// Format lays a text out in the one way that there is: HCL's canonical style, at
// most one empty line in a row and none at the ends, no white space at the end of
// lines, and lines that end in LF. It keeps comments and the order, leaves the
// contents of heredocs and of comments over several lines alone, and changes
// nothing of the meaning. A text that it gave it gives again. One that does not
// parse has diagnostics and no result.
func Format(filename string, src []byte) ([]byte, Diagnostics) {
	if ds := parses(filename, src); ds.HasErrors() {
		return nil, ds
	}
	out := src
	for range maxFormats {
		next := tidyLines(hclwrite.Format(tidyLines(out)))
		if bytes.Equal(next, out) {
			break
		}
		out = next
	}
	if at, same := sameWords(src, out); !same {
		var ds Diagnostics
		ds.Errorf(at, "config/format", "this cannot be laid out without a change of its meaning").
			WithDetail("Nothing was changed. Write the expression in one line, or in another way.")
		return nil, ds
	}
	return out, nil
}

// Masked gives the text of a file for Print, whether it parses or not: with stars in
// the place of the defaults of sensitive variables, as far as its shape tells them.
func Masked(src []byte) []byte { return maskBroken(src) }

// parses gives what keeps a text from being parsed.
func parses(filename string, src []byte) Diagnostics {
	if ds := checkNesting(filename, src); ds != nil {
		return ds
	}
	_, hds := hclsyntax.ParseConfig(src, filename, hcl.InitialPos)
	return FromHCL("hcl/syntax", hds)
}

// tidyLines takes away white space at the end of lines, and empty lines beyond
// one, where no text or comment over several lines stands.
func tidyLines(src []byte) []byte {
	fixed := fixedLines(src)
	var out bytes.Buffer
	out.Grow(len(src))
	empty, last := 0, 0
	number := 0
	for line := range bytes.Lines(src) {
		if fixed[number] {
			out.Write(line)
			empty, last = 0, out.Len()
			number++
			continue
		}
		number++
		text := bytes.TrimRight(line, " \t\r\n")
		if len(text) == 0 {
			if empty++; empty > 1 || out.Len() == 0 {
				continue
			}
			out.WriteByte('\n')
			continue
		}
		empty = 0
		out.Write(text)
		out.WriteByte('\n')
		last = out.Len()
	}
	return out.Bytes()[:last]
}

// fixedLines tells which lines, counted from 0, end within a heredoc or a comment
// that goes over several lines, so that white space there means something.
func fixedLines(src []byte) map[int]bool {
	fixed := make(map[int]bool)
	tokens, _ := hclsyntax.LexConfig(src, "", hcl.InitialPos)
	heredocs, begin := 0, 0
	for _, t := range tokens {
		first, last := t.Range.Start.Line-1, t.Range.End.Line-1
		switch t.Type {
		case hclsyntax.TokenOHeredoc:
			if heredocs++; heredocs == 1 {
				begin = first + 1 // the mark itself is followed by nothing
			}
		case hclsyntax.TokenCHeredoc:
			// Its last line, with the closing mark, has no white space of the text.
			if heredocs--; heredocs == 0 {
				hold(fixed, begin, first-1)
			}
		case hclsyntax.TokenComment:
			if bytes.HasPrefix(t.Bytes, []byte("/*")) {
				hold(fixed, first, last-1)
			}
		case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
			hold(fixed, first, last-1)
		default:
		}
	}
	return fixed
}

func hold(fixed map[int]bool, first, last int) {
	for line := first; line <= last; line++ {
		fixed[line] = true
	}
}

// sameWords tells whether two texts differ in their layout only, else where in the
// first they begin to differ.
func sameWords(before, after []byte) (hcl.Range, bool) {
	a, b := wordsOf(before), wordsOf(after)
	for i := range a {
		if i >= len(b) || a[i].Type != b[i].Type || !bytes.Equal(wordBytes(a[i]), wordBytes(b[i])) {
			return a[i].Range, false
		}
	}
	return hcl.Range{}, len(a) == len(b)
}

// wordsOf gives the tokens of a text, with one line end for several.
func wordsOf(src []byte) hclsyntax.Tokens {
	tokens, _ := hclsyntax.LexConfig(src, "", hcl.InitialPos)
	out := tokens[:0]
	fresh := true
	for _, t := range tokens {
		if t.Type == hclsyntax.TokenEOF || t.Type == hclsyntax.TokenNewline && fresh {
			continue
		}
		fresh = t.Type == hclsyntax.TokenNewline || t.Type == hclsyntax.TokenComment && !bytes.HasPrefix(t.Bytes, []byte("/*"))
		out = append(out, t)
	}
	if n := len(out); n > 0 && out[n-1].Type == hclsyntax.TokenNewline {
		out = out[:n-1]
	}
	return out
}

// wordBytes gives what counts of a token.
func wordBytes(t hclsyntax.Token) []byte {
	switch t.Type {
	case hclsyntax.TokenNewline:
		return nil
	case hclsyntax.TokenComment, hclsyntax.TokenOHeredoc, hclsyntax.TokenCHeredoc:
		return bytes.TrimSpace(t.Bytes)
	default:
		return t.Bytes
	}
}
