package cli

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// contextLines are those around a change that a diff shows.
const contextLines = 3

// unified gives the unified diff of a text, with control characters made harmless;
// nothing where the texts are the same.
func unified(name string, before, after []byte) []byte {
	a, b := linesOf(before), linesOf(after)
	edits := diffLines(a, b)
	if len(edits) == 0 {
		return nil
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", harmless(name), harmless(name))
	for len(edits) > 0 {
		n := 1
		for n < len(edits) && edits[n].a0-edits[n-1].a1 <= 2*contextLines {
			n++
		}
		writeHunk(&out, a, b, edits[:n])
		edits = edits[n:]
	}
	return out.Bytes()
}

// linesOf cuts a text into lines with their ends.
func linesOf(text []byte) []string {
	if len(text) == 0 {
		return nil
	}
	return slices.Collect(strings.Lines(string(text)))
}

// edit says that lines of a, from a0 up to a1, become those of b.
type edit struct{ a0, a1, b0, b1 int }

// writeHunk writes edits that stand close to each other.
func writeHunk(out *bytes.Buffer, a, b []string, edits []edit) {
	first, last := edits[0], edits[len(edits)-1]
	before := min(contextLines, first.a0)
	behind := min(contextLines, len(a)-last.a1)
	fmt.Fprintf(out, "@@ -%s +%s @@\n", hunkSpan(first.a0-before, last.a1+behind), hunkSpan(first.b0-before, last.b1+behind))
	at := first.a0 - before
	write := func(sign string, lines []string) {
		for _, line := range lines {
			body, ended := strings.CutSuffix(line, "\n")
			out.WriteString(sign + harmlessLine(body) + "\n")
			if !ended {
				out.WriteString("\\ No newline at end of file\n")
			}
		}
	}
	for _, e := range edits {
		write(" ", a[at:e.a0])
		write("-", a[e.a0:e.a1])
		write("+", b[e.b0:e.b1])
		at = e.a1
	}
	write(" ", a[at:last.a1+behind])
}

// harmlessLine makes a line harmless whose tabs stay.
func harmlessLine(line string) string {
	parts := strings.Split(line, "\t")
	for i := range parts {
		parts[i] = harmless(parts[i])
	}
	return strings.Join(parts, "\t")
}

// hunkSpan gives the first line and the number of lines of a hunk.
func hunkSpan(from, to int) string {
	if to == from {
		return fmt.Sprintf("%d,0", from)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

// diffLines tells what makes b of a: lines that stand once in both hold the texts
// together, and between two of them a longest common part is looked for where that
// is not too much.
func diffLines(a, b []string) []edit {
	d := &lineDiff{a: a, b: b}
	d.between(0, len(a), 0, len(b))
	return d.edits
}

// lineDiff collects edits in order.
type lineDiff struct {
	a, b  []string
	edits []edit
}

func (d *lineDiff) add(e edit) {
	if e.a0 == e.a1 && e.b0 == e.b1 {
		return
	}
	if n := len(d.edits); n > 0 && d.edits[n-1].a1 == e.a0 && d.edits[n-1].b1 == e.b0 {
		d.edits[n-1].a1, d.edits[n-1].b1 = e.a1, e.b1
		return
	}
	d.edits = append(d.edits, e)
}

func (d *lineDiff) between(a0, a1, b0, b1 int) {
	for a0 < a1 && b0 < b1 && d.a[a0] == d.b[b0] {
		a0, b0 = a0+1, b0+1
	}
	for a0 < a1 && b0 < b1 && d.a[a1-1] == d.b[b1-1] {
		a1, b1 = a1-1, b1-1
	}
	switch {
	case a0 == a1 || b0 == b1:
		d.add(edit{a0, a1, b0, b1})
		return
	case (a1-a0)*(b1-b0) <= maxCells:
		d.common(a0, a1, b0, b1)
		return
	}
	anchors := d.anchors(a0, a1, b0, b1)
	if len(anchors) == 0 {
		d.add(edit{a0, a1, b0, b1})
		return
	}
	for _, p := range anchors {
		d.between(a0, p[0], b0, p[1])
		a0, b0 = p[0]+1, p[1]+1
	}
	d.between(a0, a1, b0, b1)
}

// maxCells bounds the table of a search for a longest common part.
const maxCells = 1 << 20

// common finds a longest common part by the usual table.
func (d *lineDiff) common(a0, a1, b0, b1 int) {
	n, m := a1-a0, b1-b0
	table := make([]int32, (n+1)*(m+1))
	at := func(i, j int) *int32 { return &table[i*(m+1)+j] }
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if d.a[a0+i] == d.b[b0+j] {
				*at(i, j) = *at(i+1, j+1) + 1
			} else {
				*at(i, j) = max(*at(i+1, j), *at(i, j+1))
			}
		}
	}
	i, j := 0, 0
	for i < n && j < m {
		switch {
		case d.a[a0+i] == d.b[b0+j]:
			i, j = i+1, j+1
		case *at(i+1, j) >= *at(i, j+1):
			d.add(edit{a0 + i, a0 + i + 1, b0 + j, b0 + j})
			i++
		default:
			d.add(edit{a0 + i, a0 + i, b0 + j, b0 + j + 1})
			j++
		}
	}
	d.add(edit{a0 + i, a1, b0 + j, b1})
}

// anchors gives the places of lines that stand once in each part, as many as keep
// their order.
func (d *lineDiff) anchors(a0, a1, b0, b1 int) [][2]int {
	once := func(lines []string, from, to int) map[string]int {
		places := make(map[string]int)
		for i := from; i < to; i++ {
			if _, again := places[lines[i]]; again {
				places[lines[i]] = -1
			} else {
				places[lines[i]] = i
			}
		}
		return places
	}
	inA, inB := once(d.a, a0, a1), once(d.b, b0, b1)
	var pairs [][2]int
	for line, i := range inA {
		if j, ok := inB[line]; ok && i >= 0 && j >= 0 {
			pairs = append(pairs, [2]int{i, j})
		}
	}
	slices.SortFunc(pairs, func(x, y [2]int) int { return x[0] - y[0] })
	// The longest run of pairs whose places in b rise too.
	var ends []int
	from := make([]int, len(pairs))
	for i, p := range pairs {
		k := sort.Search(len(ends), func(k int) bool { return pairs[ends[k]][1] >= p[1] })
		from[i] = -1
		if k > 0 {
			from[i] = ends[k-1]
		}
		if k == len(ends) {
			ends = append(ends, i)
		} else {
			ends[k] = i
		}
	}
	if len(ends) == 0 {
		return nil
	}
	var out [][2]int
	for i := ends[len(ends)-1]; i >= 0; i = from[i] {
		out = append(out, pairs[i])
	}
	slices.Reverse(out)
	return out
}
