package lint

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/mox-like/mox-like/core/config"
)

// excuse is a comment that silences the findings of one code at one place:
//
//	# validate:ignore CODE: reason
//
// Behind something it is for what begins on its line. On a line of its own it is
// for the attribute or the whole block below.
type excuse struct {
	code, reason string
	comment      hcl.Range
	// first and last are the lines that it is for; last is 0 if there is nothing.
	first, last int
	used        bool
}

var ignoreComment = regexp.MustCompile(`^(?:#+|//)\s*validate:ignore\b\s*(.*?)\s*$`)

// silence takes out what comments excuse, and adds what is wrong with them. whole
// says that everything was checked, so that a comment which silences nothing is
// of no use.
func silence(ds config.Diagnostics, sources map[string][]byte, c *Catalogue, whole bool) (config.Diagnostics, []Silenced) {
	var out config.Diagnostics
	var excuses []*excuse
	for name, text := range sources {
		if bytes.Contains(text, []byte("validate:ignore")) {
			list, wrong := excusesOf(name, text, c)
			excuses = append(excuses, list...)
			out.Append(wrong)
		}
	}
	var silenced []Silenced
	for _, d := range ds {
		e := excuseFor(excuses, d)
		if e == nil {
			out = append(out, d)
			continue
		}
		first := !e.used
		e.used = true
		if p, _ := c.Page(d.Code); d.Severity == config.Error || p.Firm {
			out = append(out, d)
			if first {
				out.Warnf(e.comment, "ignore/not-allowed", "%s cannot be silenced", d.Code).
					WithDetail("Put right what it is about, and remove the comment.").
					WithRelated(d.Range, "it is about this")
			}
			continue
		}
		silenced = append(silenced, Silenced{Diagnostic: d, Reason: e.reason})
	}
	for _, e := range excuses {
		if whole && !e.used {
			out.Warnf(e.comment, "ignore/unused", "this comment silences nothing: there is no %s here", e.code).
				WithDetail("Remove it. Behind something it is for what begins on its line, and on a line of its own for the attribute or the block below.")
		}
	}
	return out.Unique(), silenced
}

func excuseFor(excuses []*excuse, d config.Diagnostic) *excuse {
	i := slices.IndexFunc(excuses, func(e *excuse) bool {
		return e.code == d.Code && e.comment.Filename == d.Range.Filename && e.first <= d.Range.Start.Line && d.Range.Start.Line <= e.last
	})
	if i < 0 {
		return nil
	}
	return excuses[i]
}

// excusesOf finds the comments of one file.
func excusesOf(name string, text []byte, c *Catalogue) ([]*excuse, config.Diagnostics) {
	var ds config.Diagnostics
	var list []*excuse
	tokens, _ := hclsyntax.LexConfig(text, name, hcl.InitialPos)
	file, _ := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
	body, _ := file.Body.(*hclsyntax.Body)
	for i, t := range tokens {
		if t.Type != hclsyntax.TokenComment {
			continue
		}
		m := ignoreComment.FindStringSubmatch(strings.TrimSpace(string(t.Bytes)))
		if m == nil {
			continue
		}
		comment := t.Range
		comment.End = comment.Start // of a comment the line end is a part
		length := len(bytes.TrimRight(t.Bytes, "\r\n"))
		comment.End.Byte += length
		comment.End.Column += length
		e := parseExcuse(m[1], comment, c, &ds)
		if e == nil {
			continue
		}
		if i > 0 && tokens[i-1].Type != hclsyntax.TokenNewline && tokens[i-1].Type != hclsyntax.TokenComment {
			e.first, e.last = comment.Start.Line, comment.Start.Line
		} else {
			e.first, e.last = below(tokens[i:], body)
		}
		list = append(list, e)
	}
	return list, ds
}

// parseExcuse reads what stands behind validate:ignore.
func parseExcuse(text string, comment hcl.Range, c *Catalogue, ds *config.Diagnostics) *excuse {
	code, reason, ok := strings.Cut(text, ":")
	code, reason = strings.TrimSpace(code), strings.TrimSpace(reason)
	switch {
	case code == "" || strings.ContainsAny(code, " \t"):
		ds.Warnf(comment, "ignore/no-code", "this comment does not say what to silence").
			WithDetail("Write # validate:ignore CODE: REASON, with the code that the diagnostic has in its brackets.")
	case !c.known(code):
		d := ds.Warnf(comment, "ignore/unknown-code", "no diagnostic has the code %q", code).
			WithDetail("'mox-like validate --explain' lists the codes.")
		if near := c.Suggest(code); near != "" {
			d.WithDetail("Did you mean %q?", near)
		}
	case !ok || reason == "":
		ds.Warnf(comment, "ignore/no-reason", "this comment does not say why %s is of no matter here", code).
			WithDetail("Write # validate:ignore %s: REASON", code)
	default:
		return &excuse{code: code, reason: reason, comment: comment}
	}
	return nil
}

// below gives the lines of the attribute or the block that begins behind a comment.
func below(tokens hclsyntax.Tokens, body *hclsyntax.Body) (first, last int) {
	for _, t := range tokens {
		if t.Type != hclsyntax.TokenComment && t.Type != hclsyntax.TokenNewline {
			if body == nil || t.Type == hclsyntax.TokenEOF {
				return 0, 0
			}
			return t.Range.Start.Line, endOf(body, t.Range.Start)
		}
	}
	return 0, 0
}

// endOf gives the line on which the attribute or the block ends that begins at a
// place, 0 if none does.
func endOf(body *hclsyntax.Body, start hcl.Pos) int {
	for _, a := range body.Attributes {
		if a.NameRange.Start.Byte == start.Byte {
			return a.SrcRange.End.Line
		}
	}
	for _, b := range body.Blocks {
		if b.TypeRange.Start.Byte == start.Byte {
			return b.CloseBraceRange.End.Line
		}
		if b.TypeRange.Start.Byte < start.Byte && start.Byte < b.CloseBraceRange.End.Byte {
			return endOf(b.Body, start)
		}
	}
	return 0
}
