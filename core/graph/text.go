package graph

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/effective"
)

// Text draws the chains for a terminal: a line a handler, a column a stage.
func Text(w io.Writer, c *effective.Config) error {
	list, notes := charts(c)
	var out bytes.Buffer
	for i := range list {
		if i > 0 {
			out.WriteByte('\n')
		}
		list[i].text(&out)
	}
	if len(notes) > 0 {
		out.WriteByte('\n')
	}
	for _, n := range notes {
		out.WriteString(clean(n) + "\n")
	}
	out.WriteString("\n● acts   ○ is monitored only   – is off   ╭ ╰ in parallel   ► target\n")
	_, err := w.Write(out.Bytes())
	return err
}

func (c *chart) text(out *bytes.Buffer) {
	out.WriteString(clean(c.title))
	if c.subtitle != "" {
		out.WriteString("  " + clean(c.subtitle))
	}
	out.WriteByte('\n')
	if len(c.rows) == 0 {
		out.WriteString("  no chain\n")
		return
	}
	width := 0
	for _, r := range c.rows {
		for i := range r.cells {
			width = max(width, utf8.RuneCountInString(r.cells[i].name))
		}
	}
	out.WriteString(strings.Join(append([]string{"    " + strings.Repeat(" ", width)}, c.stages...), "  ") + "\n")
	group := ""
	for _, r := range c.rows {
		if r.group != group {
			group = r.group
			if group != "" {
				fmt.Fprintf(out, "  %s:\n", group)
			} else {
				out.WriteString("  the chain's own:\n")
			}
		}
		for i := range r.cells {
			c.line(out, &r.cells[i], mark(r, i), width)
		}
	}
}

// mark shows what a handler is in its row.
func mark(r row, i int) string {
	switch {
	case r.cells[i].target:
		return "►"
	case len(r.cells) == 1:
		return " "
	case i == 0:
		return "╭"
	case i == len(r.cells)-1:
		return "╰"
	default:
		return "│"
	}
}

func (c *chart) line(out *bytes.Buffer, h *cell, mark string, width int) {
	var line strings.Builder
	fmt.Fprintf(&line, "  %s %-*s", mark, width, h.name)
	for _, s := range c.stages {
		left := len(s) / 2
		shown := h.acts(s)
		if shown == "" {
			shown = " "
		}
		line.WriteString("  " + strings.Repeat(" ", left) + shown + strings.Repeat(" ", len(s)-left-1))
	}
	notes := strings.Join(append([]string{h.place}, h.notes...), ", ")
	out.WriteString(strings.TrimRight(line.String()+"   "+strings.TrimPrefix(notes, ", "), " ") + "\n")
}
