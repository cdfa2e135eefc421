package effective

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"

	"github.com/mox-like/mox-like/core/tuning"
)

// Print writes a configuration as a file: what holds, with the place from where each
// value comes behind it. It is valid and means the same, but for secrets, in whose
// place stand stars, and for the handlers of other domains where it is that of one
// domain. What could steer a terminal is taken out.
func (c *Config) Print(w io.Writer) error {
	p := &printer{domain: c.Domain}
	p.comment("of " + strings.Join(c.Files, ", "))
	if c.Domain != "" {
		p.comment("with the chains as they hold for the domain " + c.Domain)
	}
	for i := range c.Blocks {
		p.block(c.Blocks[i], nil)
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		p.block(l.Block, func() { p.chain("chain", "", l.Own, l.Chain) })
	}
	for i := range c.Domains {
		p.ownDomain(&c.Domains[i])
	}
	_, err := w.Write(printable(p.out.Bytes()))
	return err
}

// printer writes a file.
type printer struct {
	out    bytes.Buffer
	depth  int
	domain string
}

func (p *printer) line(text string) {
	if text != "" {
		p.out.WriteString(strings.Repeat("  ", p.depth))
	}
	p.out.WriteString(text)
	p.out.WriteByte('\n')
}

func (p *printer) comment(text string) {
	if text != "" {
		p.line("# " + oneLine(text))
	}
}

// gap writes an empty line in front of a block, but for the first in another.
func (p *printer) gap() {
	if !bytes.HasSuffix(p.out.Bytes(), []byte("{\n")) {
		p.out.WriteByte('\n')
	}
}

// block writes a block, and in it what more writes behind its own.
func (p *printer) block(b Block, more func()) {
	p.gap()
	p.comment(b.Place)
	p.body(header(b.Type, b.Labels...), b, more)
}

func (p *printer) body(header string, b Block, more func()) {
	if len(b.Values) == 0 && len(b.Blocks) == 0 && more == nil {
		p.line(header + " {}")
		return
	}
	p.line(header + " {")
	p.depth++
	p.values(b.Values)
	for i := range b.Blocks {
		p.block(b.Blocks[i], nil)
	}
	if more != nil {
		more()
	}
	p.depth--
	p.line("}")
}

// chain writes the steps of a chain in a block of that header.
func (p *printer) chain(header, place string, own bool, steps []Step) {
	if steps == nil {
		return
	}
	p.gap()
	p.comment(place)
	if own {
		p.comment("the domain's own")
	}
	p.line(header + " {")
	p.depth++
	for i := range steps {
		p.step(&steps[i])
	}
	p.depth--
	p.line("}")
}

func (p *printer) step(s *Step) {
	p.gap()
	p.comment(s.origin())
	switch {
	case s.Inherit:
		p.line("inherit {}")
	case s.Parallel != nil:
		p.line("parallel {")
		p.depth++
		for i := range s.Parallel {
			p.step(&s.Parallel[i])
		}
		p.depth--
		p.line("}")
	default:
		p.body(header(s.Block.Type, s.Block.Labels...), s.Block, nil)
	}
}

// origin says where a step stands, and how it comes into the chain.
func (s *Step) origin() string {
	parts := []string{s.Block.Place}
	for _, v := range s.Via {
		parts = append(parts, fmt.Sprintf("by use %q (%s)", v.Chain, v.Place))
	}
	if s.Inherited {
		parts = append(parts, "inherited")
	}
	return strings.Join(parts, ", ")
}

func (p *printer) ownDomain(d *Domain) {
	if d.Name == tuning.Template && d.Place == "" && len(d.Settings) == 0 {
		return
	}
	p.gap()
	p.comment(d.Place)
	if d.Apart {
		p.comment("the settings of * in the database do not fit it and do not hold here")
	}
	all := Block{Values: d.Values, Blocks: slices.Concat(d.Blocks, d.Settings)}
	var more func()
	if len(d.Chains) > 0 {
		more = func() {
			for i := range d.Chains {
				own := &d.Chains[i]
				p.chain(header("chain", own.Listener), own.Place, false, own.Chain)
			}
		}
	}
	p.body(header("domain", d.Name), all, more)
}

// values writes attributes that line up as HCL's formatter has it, each with where
// it comes from. Long ones stand behind the others.
func (p *printer) values(list []Value) {
	var short, long []Value
	for _, v := range list {
		if strings.Contains(v.Text, "\n") || len(v.Text) > maxColumn {
			long = append(long, v)
		} else {
			short = append(short, v)
		}
	}
	p.columns(short)
	for _, v := range long {
		p.long(v)
	}
}

// maxColumn is how long a value is behind which there is still room, in bytes.
const maxColumn = 72

// columns writes values of one line each.
func (p *printer) columns(list []Value) {
	name, text := 0, 0
	for _, v := range list {
		name = max(name, utf8.RuneCountInString(v.Name))
		text = max(text, utf8.RuneCountInString(v.Text))
	}
	for _, v := range list {
		p.line(fmt.Sprintf("%-*s = %-*s # %s", name, v.Name, text, v.Text, oneLine(v.Origin(p.domain))))
	}
}

// long writes a long value, or one of several lines, below where it comes from.
func (p *printer) long(v Value) {
	p.comment(v.Origin(p.domain))
	p.line(v.Name + " = " + v.indented(p.depth))
}

// indented gives the text with its lines at a depth, but for heredocs, whose lines
// mean something.
func (v Value) indented(depth int) string {
	if strings.Contains(v.Text, "<<") {
		return v.Text
	}
	return strings.ReplaceAll(v.Text, "\n", "\n"+strings.Repeat("  ", depth))
}

// Origin says in words where a value comes from. domain is the one for which it
// holds, "" where that shows.
func (v Value) Origin(domain string) string {
	var parts []string
	switch v.Source {
	case tuning.FromDefault:
		return "default"
	case tuning.FromFileTemplate:
		parts = append(parts, v.Place, "settings of domain *")
	case tuning.FromFile:
		parts = append(parts, v.Place)
		if domain != "" {
			parts = append(parts, "settings of domain "+domain)
		}
	default:
		parts = append(parts, v.Place)
	}
	if !v.Since.IsZero() {
		parts = append(parts, "set "+v.Since.UTC().Format(time.RFC3339))
	}
	for _, u := range v.Uses {
		parts = append(parts, u.words())
	}
	if v.Secret {
		parts = append(parts, "secret")
	}
	return strings.Join(parts, ", ")
}

func (u Use) words() string {
	switch u.Kind {
	case "environment":
		return u.Name + " of the environment"
	case "file":
		return "the file " + u.Name
	}
	switch u.Source {
	case "given":
		return "variable " + u.Name + " given by --var or --var-file"
	case "environment":
		return "variable " + u.Name + " by " + u.By + " of the environment"
	default:
		return "variable " + u.Name + " (default, " + u.Place + ")"
	}
}

// header writes the header of a block.
func header(word string, labels ...string) string {
	for _, label := range labels {
		word += " " + quote(label)
	}
	return word
}

func quote(text string) string { return literal(cty.StringVal(text)) }

// literal writes a value as the file has it.
func literal(value cty.Value) string { return string(hclwrite.TokensForValue(value).Bytes()) }

// oneLine makes a text one that a comment can hold.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// printable takes out what could steer a terminal.
func printable(text []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
