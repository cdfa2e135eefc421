// Package graph draws the chains of a configuration: for each listener its handlers
// in order and the stages at which they act, those in parallel beside each other,
// named chains with where they are used, and the targets at the end. As text for
// terminals (Text), and as a picture in SVG (SVG) that needs nothing else: no script,
// no font, no style sheet.
package graph

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/mox-like/mox-like/core/effective"
	"github.com/mox-like/mox-like/core/tuning"
)

// maxCharts bounds how many chains of domains are drawn.
const maxCharts = 50

// chart is one chain.
type chart struct {
	title, subtitle string
	stages          []string
	rows            []row
}

// row is a handler, or several in parallel.
type row struct {
	// group says by which uses of named chains the row came in, "" for the chain itself.
	group string
	cells []cell
}

// cell is a handler.
type cell struct {
	name   string
	stages []string
	target bool
	off    bool
	watch  bool // it is monitored only
	// notes are what else is to be known: when, where it comes from.
	notes []string
	place string
}

// charts makes what is drawn, and what is said below it.
func charts(c *effective.Config) (list []chart, notes []string) {
	stages := make(map[string][]string)
	for i := range c.Listeners {
		l := &c.Listeners[i]
		stages[l.Name()] = l.Stages
		one := chart{title: "listener " + words(l.Block.Labels), subtitle: addresses(l), stages: l.Stages, rows: rows(l.Chain)}
		if c.Domain != "" {
			one.title += ", as it holds for " + c.Domain
		}
		if l.Own {
			one.subtitle = joined(one.subtitle, "the domain's own chain")
		}
		list = append(list, one)
	}
	drawn, left := 0, 0
	for i := range c.Domains {
		d := &c.Domains[i]
		for _, own := range d.Chains {
			if _, ok := stages[own.Listener]; !ok {
				continue
			}
			if drawn++; drawn > maxCharts {
				left++
				continue
			}
			list = append(list, chart{
				title: "domain " + d.Name + ", listener " + own.Listener, subtitle: own.Place,
				stages: stages[own.Listener], rows: rows(own.Chain),
			})
		}
	}
	if left > 0 {
		notes = append(notes, fmt.Sprintf("%d more chains of domains are not drawn: name one by --domain.", left))
	}
	return list, append(notes, tunedBy(c)...)
}

// addresses gives where a listener listens.
func addresses(l *effective.Listener) string {
	for _, v := range l.Block.Values {
		if v.Name == "address" {
			return strings.NewReplacer(`"`, "", "[\"", "", "\"]", "").Replace(strings.TrimSuffix(strings.TrimPrefix(v.Text, "["), "]"))
		}
	}
	return ""
}

// tunedBy says which domains have settings for which handlers.
func tunedBy(c *effective.Config) []string {
	byHandlers := make(map[string][]string)
	var order, out []string
	for i := range c.Domains {
		d := &c.Domains[i]
		var handlers []string
		for _, s := range d.Settings {
			handlers = append(handlers, s.Labels[0])
		}
		if len(handlers) == 0 {
			continue
		}
		key := strings.Join(handlers, ", ")
		if d.Name == tuning.Template {
			out = append(out, "Settings of all domains without a setting of their own tune: "+key+".")
			continue
		}
		if byHandlers[key] == nil {
			order = append(order, key)
		}
		byHandlers[key] = append(byHandlers[key], d.Name)
	}
	for _, key := range order {
		domains := byHandlers[key]
		who := strings.Join(domains, ", ")
		if n := len(domains); n > 3 {
			who = strings.Join(domains[:3], ", ") + " and " + strconv.Itoa(n-3) + " more"
		}
		word := "domain"
		if len(domains) > 1 {
			word = "domains"
		}
		out = append(out, fmt.Sprintf("Settings of %s %s tune: %s.", word, who, key))
	}
	return out
}

func rows(chain []effective.Step) []row {
	out := make([]row, 0, len(chain))
	for i := range chain {
		s := &chain[i]
		r := row{group: group(s)}
		switch {
		case s.Inherit:
			r.cells = []cell{{name: "inherit", notes: []string{"the listener's handlers up to its targets"}, place: s.Block.Place}}
		case s.Parallel != nil:
			for j := range s.Parallel {
				r.cells = append(r.cells, handler(&s.Parallel[j]))
			}
		default:
			r.cells = []cell{handler(s)}
		}
		if len(r.cells) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// group says how a step came into the chain.
func group(s *effective.Step) string {
	var parts []string
	if s.Inherited {
		parts = append(parts, "inherited")
	}
	for _, v := range s.Via {
		parts = append(parts, "use "+v.Chain)
	}
	return clean(strings.Join(parts, ", "))
}

func handler(s *effective.Step) cell {
	c := cell{
		name: clean(words(append([]string{s.Block.Type}, s.Block.Labels...))), stages: s.Stages,
		target: s.Target, off: s.Disabled, watch: s.Monitor, place: clean(s.Block.Place),
	}
	if s.Target {
		c.notes = append(c.notes, "target")
	}
	if s.Disabled {
		c.notes = append(c.notes, "off")
	}
	if s.Monitor {
		c.notes = append(c.notes, "monitored only")
	}
	for _, v := range s.Block.Values {
		switch {
		case v.Name == "when":
			c.notes = append(c.notes, "when "+clean(strings.Join(strings.Fields(v.Text), " ")))
		case v.Name == "on_error" && v.Text != `"continue"`:
			c.notes = append(c.notes, "on error "+strings.Trim(v.Text, `"`))
		}
	}
	var tuned []string
	for _, v := range s.Block.Values {
		switch v.Source {
		case tuning.FromDefault, tuning.FromHandler:
		default:
			tuned = append(tuned, v.Name)
		}
	}
	if len(tuned) > 0 {
		c.notes = append(c.notes, "tuned: "+strings.Join(tuned, ", "))
	}
	return c
}

// acts gives the mark of a handler at a stage, "" where it does not act.
func (c *cell) acts(stage string) string {
	switch {
	case !slices.Contains(c.stages, stage):
		return ""
	case c.off:
		return "–"
	case c.watch:
		return "○"
	default:
		return "●"
	}
}

func words(list []string) string { return strings.Join(list, " ") }

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + ", " + b
}

// clean takes out what could steer a terminal or has no place in XML.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == 0xFFFE || r == 0xFFFF {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
