package graph

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/effective"
)

// Measures of the picture, in pixels.
const (
	margin     = 24
	boxWidth   = 230
	boxHeight  = 44
	boxGap     = 12 // between boxes in parallel
	rowGap     = 18
	column     = 64 // of a stage
	headHeight = 64
	groupHead  = 22
	noteLine   = 20
	maxBox     = 32 // characters in a box
)

// style has the colours for light and for dark.
const style = `
svg { background: #ffffff; font: 13px system-ui, sans-serif; }
text { fill: #1f2328; } .small { font-size: 11px; fill: #59636e; } .title { font-size: 16px; font-weight: 600; }
.box { fill: #f6f8fa; stroke: #818b98; } .target { fill: #dafbe1; stroke: #1a7f37; } .off { fill: none; stroke: #818b98; stroke-dasharray: 4 3; }
.group { fill: none; stroke: #0969da; stroke-dasharray: 6 4; } .line { stroke: #818b98; fill: none; } .grid { stroke: #d1d9e0; }
.dot { fill: #0969da; } .ring { fill: none; stroke: #0969da; stroke-width: 2; } .dash { stroke: #818b98; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; } text { fill: #f0f6fc; } .small { fill: #9198a1; }
.box { fill: #151b23; stroke: #656c76; } .target { fill: #12261e; stroke: #3fb950; } .off { stroke: #656c76; }
.group { stroke: #4493f8; } .line, .dash { stroke: #656c76; } .grid { stroke: #3d444d; } .dot { fill: #4493f8; } .ring { stroke: #4493f8; }
}
`

// SVG draws the chains as a picture that fits light and dark pages. It is one whole
// document and refers to nothing outside.
func SVG(w io.Writer, c *effective.Config) error {
	list, notes := charts(c)
	p := &picture{}
	y := margin
	width := 600
	for i := range list {
		var right int
		right, y = p.chart(&list[i], y)
		width = max(width, right)
		y += margin
	}
	for _, n := range notes {
		y += noteLine
		p.text(margin, y, "small", n)
		width = max(width, 2*margin+7*utf8.RuneCountInString(n))
	}
	y += margin
	var out bytes.Buffer
	fmt.Fprintf(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n", width, y, width, y)
	out.WriteString("<title>Chains of mox-like</title>\n<style>" + style + "</style>\n")
	out.Write(p.out.Bytes())
	out.WriteString("</svg>\n")
	_, err := w.Write(out.Bytes())
	return err
}

// picture collects the elements of a picture.
type picture struct{ out bytes.Buffer }

func (p *picture) text(x, y int, class, text string) {
	fmt.Fprintf(&p.out, "<text x=\"%d\" y=\"%d\" class=\"%s\">%s</text>\n", x, y, class, escape(text))
}

func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(clean(text))) // a buffer takes everything
	return b.String()
}

func (p *picture) line(class string, x1, y1, x2, y2 int) {
	fmt.Fprintf(&p.out, "<line class=\"%s\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n", class, x1, y1, x2, y2)
}

func (p *picture) rect(class string, x, y, w, h int) {
	fmt.Fprintf(&p.out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", class, x, y, w, h)
}

// chart draws one chain from y down, and gives the place to the right of it and the
// one below.
func (p *picture) chart(c *chart, y int) (right, below int) {
	p.text(margin, y+16, "title", c.title)
	if c.subtitle != "" {
		p.text(margin, y+34, "small", c.subtitle)
	}
	if len(c.rows) == 0 {
		p.text(margin, y+headHeight, "small", "no chain")
		return boxWidth + 2*margin, y + headHeight + margin
	}
	most := 1
	for _, r := range c.rows {
		most = max(most, len(r.cells))
	}
	area := most*boxWidth + (most-1)*boxGap
	stages := 2*margin + area + boxGap
	for i, s := range c.stages {
		x := stages + i*column + column/2
		fmt.Fprintf(&p.out, "<text x=\"%d\" y=\"%d\" class=\"small\" text-anchor=\"middle\">%s</text>\n", x, y+headHeight-6, escape(s))
	}
	p.line("grid", margin, y+headHeight, stages+len(c.stages)*column, y+headHeight)
	below = p.rows(c, y+headHeight+rowGap, area, stages)
	return max(stages+len(c.stages)*column, 2*margin+9*utf8.RuneCountInString(c.title)) + margin, below
}

// rows draws the rows of a chart, with a frame around those of one named chain.
func (p *picture) rows(c *chart, y, area, stages int) int {
	group, top := "", y
	end := func() {
		if group != "" {
			p.rect("group", margin-8, top, area+16+margin, y-top-rowGap/2)
			p.text(margin, top+15, "small", group)
		}
	}
	for i, r := range c.rows {
		if r.group != group {
			end()
			group, top = r.group, y
			if group != "" {
				y += groupHead
			}
		}
		p.row(c, r, y, area, stages)
		if i+1 < len(c.rows) {
			gap := rowGap
			if next := c.rows[i+1].group; next != "" && next != group {
				gap += groupHead
			}
			p.line("line", margin+area/2, y+boxHeight, margin+area/2, y+boxHeight+gap)
		}
		y += boxHeight + rowGap
	}
	end()
	return y
}

// row draws the handlers of a row and the stages at which they act.
func (p *picture) row(c *chart, r row, y, area, stages int) {
	width := len(r.cells)*boxWidth + (len(r.cells)-1)*boxGap
	x := margin + (area-width)/2
	for i := range r.cells {
		h := &r.cells[i]
		class := "box"
		switch {
		case h.off:
			class = "off"
		case h.target:
			class = "target"
		}
		fmt.Fprintf(&p.out, "<g><title>%s</title>\n", escape(strings.Join(append([]string{h.name, h.place}, h.notes...), "\n")))
		p.rect(class, x, y, boxWidth, boxHeight)
		p.text(x+10, y+18, "", cut(h.name, maxBox))
		p.text(x+10, y+34, "small", cut(strings.Join(append([]string{h.place}, h.notes...), ", "), maxBox+6))
		p.out.WriteString("</g>\n")
		x += boxWidth + boxGap
	}
	middle := y + boxHeight/2
	for i, s := range c.stages {
		at := stages + i*column + column/2
		for k := range r.cells {
			p.dot(r.cells[k].acts(s), at+14*k-7*(len(r.cells)-1), middle)
		}
	}
}

// dot draws the mark of a handler at a stage.
func (p *picture) dot(mark string, x, y int) {
	switch mark {
	case "●":
		fmt.Fprintf(&p.out, "<circle class=\"dot\" cx=\"%d\" cy=\"%d\" r=\"5\"/>\n", x, y)
	case "○":
		fmt.Fprintf(&p.out, "<circle class=\"ring\" cx=\"%d\" cy=\"%d\" r=\"4\"/>\n", x, y)
	case "–":
		p.line("dash", x-5, y, x+5, y)
	}
}

// cut shortens a text to n characters.
func cut(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}
