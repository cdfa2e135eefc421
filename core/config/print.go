package config

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/text/width"
)

// PrintOptions say how diagnostics are printed.
type PrintOptions struct {
	// Color uses ANSI colours.
	Color bool
}

// Print writes diagnostics for people, with the lines that they are about.
// sources are a File's; a place in a text that is not there is given by its
// name only. Errors of the writer are left to the writer.
func Print(w io.Writer, ds Diagnostics, sources map[string][]byte, o PrintOptions) {
	p := &printer{sources: sources, color: o.Color}
	for i := range ds {
		p.diagnostic(&ds[i])
	}
	_, _ = w.Write(p.out.Bytes())
}

type printer struct {
	out     bytes.Buffer
	sources map[string][]byte
	color   bool
}

// The colours, as the compilers of other languages have them.
const (
	red    = "\x1b[1;31m"
	yellow = "\x1b[1;33m"
	blue   = "\x1b[1;34m"
	green  = "\x1b[1;32m"
	bold   = "\x1b[1m"
	reset  = "\x1b[0m"
)

func (p *printer) paint(color, text string) string {
	if !p.color || text == "" {
		return text
	}
	return color + text + reset
}

func (p *printer) diagnostic(d *Diagnostic) {
	color := red
	if d.Severity == Warning {
		color = yellow
	}
	fmt.Fprintf(&p.out, "%s%s\n", p.paint(color, fmt.Sprintf("%s[%s]", d.Severity, d.Code)), p.paint(bold, ": "+printable(d.Summary)))
	gutter := p.gutter(d)
	marked := p.snippet(d.Range, color, gutter)
	if d.Detail != "" {
		if marked {
			p.bar(gutter, "")
		}
		p.help(d.Detail, gutter)
	}
	for _, r := range d.Related {
		fmt.Fprintf(&p.out, "%s: %s\n", p.paint(green, "note"), printable(r.Message))
		p.snippet(r.Range, green, gutter)
	}
	p.out.WriteByte('\n')
}

// gutter gives the width of the line numbers.
func (p *printer) gutter(d *Diagnostic) int {
	last := d.Range.Start.Line
	for _, r := range d.Related {
		last = max(last, r.Range.Start.Line)
	}
	return len(fmt.Sprint(last))
}

func (p *printer) bar(gutter int, rest string) {
	line := strings.Repeat(" ", gutter) + " " + p.paint(blue, "|")
	if rest != "" {
		line += " " + rest
	}
	p.out.WriteString(line + "\n")
}

func (p *printer) help(detail string, gutter int) {
	pad := strings.Repeat(" ", gutter)
	for i, line := range strings.Split(detail, "\n") {
		lead := pad + "         "
		if i == 0 {
			lead = pad + " " + p.paint(blue, "=") + " " + p.paint(bold, "help") + ": "
		}
		p.out.WriteString(strings.TrimRight(lead+printable(line), " ") + "\n")
	}
}

// snippet prints a place with its line underlined. It tells whether the line
// is there.
func (p *printer) snippet(r hcl.Range, color string, gutter int) bool {
	if r.Filename == "" {
		return false
	}
	fmt.Fprintf(&p.out, "%s%s %s\n", strings.Repeat(" ", gutter), p.paint(blue, "-->"), printable(place(r)))
	line, start, end, ok := p.line(r)
	if !ok {
		return false
	}
	p.bar(gutter, "")
	shown, column, length := show(line, start, end)
	fmt.Fprintf(&p.out, "%s %s", p.paint(blue, fmt.Sprintf("%*d", gutter, r.Start.Line)), p.paint(blue, "|"))
	if shown != "" {
		p.out.WriteString(" " + shown)
	}
	p.out.WriteByte('\n')
	p.bar(gutter, strings.Repeat(" ", column)+p.paint(color, strings.Repeat("^", length)))
	return true
}

// line gives the line on which a place begins, and the bytes of the place in
// it. A place of several lines ends with the first.
func (p *printer) line(r hcl.Range) (line []byte, start, end int, ok bool) {
	src, ok := p.sources[r.Filename]
	if !ok || r.Start.Line == 0 || r.Start.Byte < 0 || r.Start.Byte > len(src) {
		return nil, 0, 0, false
	}
	first := bytes.LastIndexByte(src[:r.Start.Byte], '\n') + 1
	last := len(src)
	if i := bytes.IndexByte(src[r.Start.Byte:], '\n'); i >= 0 {
		last = r.Start.Byte + i
	}
	line = bytes.TrimRight(src[first:last], "\r")
	start = min(r.Start.Byte-first, len(line))
	end = min(max(r.End.Byte-first, start), len(line))
	return line, start, end, true
}

// Columns of a source line that are shown, and those in front of the place
// where the line is longer.
const (
	maxColumns  = 160
	leadColumns = 60
	tabColumns  = 4
)

// show gives a line as a terminal shows it, and where in it the bytes from
// start to end stand, in columns. The mark is at least one column wide.
func show(line []byte, start, end int) (text string, column, length int) {
	var cells []string
	var widths []int
	first, last, columns := 0, 0, 0
	for i := 0; i < len(line); {
		r, n := utf8.DecodeRune(line[i:])
		if i == start {
			first = len(cells)
		}
		if i < end {
			last = len(cells) + 1
		}
		cell, wide := cellOf(r, columns)
		cells, widths = append(cells, cell), append(widths, wide)
		columns += wide
		i += n
	}
	if start >= len(line) {
		first = len(cells)
	}
	from, to := window(widths, first)
	last = min(last, to)
	var b strings.Builder
	if from > 0 {
		b.WriteString("…")
		column = 1
	}
	for i := from; i < to; i++ {
		b.WriteString(cells[i])
		switch {
		case i < first:
			column += widths[i]
		case i < last:
			length += widths[i]
		}
	}
	text = b.String()
	if to < len(cells) {
		text += "…"
	}
	return strings.TrimRight(text, " "), column, max(1, length)
}

// window gives the cells that are shown of a long line.
func window(widths []int, first int) (from, to int) {
	total := 0
	for _, w := range widths {
		total += w
	}
	if total <= maxColumns {
		return 0, len(widths)
	}
	from = first
	for lead := 0; from > 0 && lead < leadColumns; from-- {
		lead += widths[from-1]
	}
	to = from
	for shown := 0; to < len(widths) && shown < maxColumns; to++ {
		shown += widths[to]
	}
	return from, to
}

// cellOf gives what a terminal shows of a character, and how many columns wide.
func cellOf(r rune, column int) (string, int) {
	switch {
	case r == '\t':
		n := tabColumns - column%tabColumns
		return strings.Repeat(" ", n), n
	case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
		return "\uFFFD", 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return string(r), 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return string(r), 2
	default:
		return string(r), 1
	}
}

// printable takes what could steer a terminal out of a text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
