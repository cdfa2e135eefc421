package config

import (
	"slices"
	"strings"
)

// How the parser words a quote that is not closed, once for each line behind it.
const (
	openString   = "invalid multi-line string"
	openTemplate = "unterminated template string"
)

// withoutFollowUps leaves out what the parser says only because of a mistake that it
// has told of: more of the same place, and all that comes behind a string without
// an end, where what is text and what is not has changed places.
func (ds Diagnostics) withoutFollowUps() Diagnostics {
	ds.Sort()
	open := false
	out := ds[:0:0]
	for _, d := range ds {
		if d.Code == "hcl/syntax" {
			if open || slices.ContainsFunc(out, func(first Diagnostic) bool {
				return first.Code == d.Code && first.Range.Filename == d.Range.Filename && first.Range.Start == d.Range.Start
			}) {
				continue
			}
			if s := strings.ToLower(d.Summary); s == openString || s == openTemplate {
				open = true
				d.Summary = "this string has no closing quote"
				d.Detail = "Write \" at its end. A text of several lines is written as <<EOT, the lines, and EOT on a line of its own."
			}
		}
		out = append(out, d)
	}
	return out
}
