package effective

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/mox-like/mox-like/core/tuning"
)

// Anonymise gives the configuration with other names: every domain, host, address,
// network, path and label, and every other text that somebody has written, is
// replaced by one that is meant for documents, the same by the same. What the
// program itself knows stays: modules, attributes, defaults, numbers, times, and
// words such as reject.
func (c *Config) Anonymise() *Config {
	n := newNames()
	for i := range c.Domains {
		n.domain(c.Domains[i].Name)
	}
	if c.Domain != "" {
		n.domain(c.Domain)
	}
	for i := range c.Listeners {
		n.label(c.Listeners[i].Name(), c.Listeners[i].Block.Labels[0])
		n.handlers(c.Listeners[i].Chain)
	}
	for i := range c.Domains {
		for _, own := range c.Domains[i].Chains {
			n.handlers(own.Chain)
		}
	}
	out := &Config{Blocks: n.blocks(c.Blocks, true)}
	for _, file := range c.Files {
		out.Files = append(out.Files, n.file(file))
	}
	if c.Domain != "" {
		out.Domain = n.domain(c.Domain)
	}
	for _, l := range c.Listeners {
		l.Block, l.Chain = n.block(l.Block, true), n.chain(l.Chain)
		out.Listeners = append(out.Listeners, l)
	}
	for _, d := range c.Domains {
		out.Domains = append(out.Domains, n.ownDomain(d))
	}
	return out
}

// handlers gives names to the handlers that have a label.
func (n *names) handlers(chain []Step) {
	for _, s := range Handlers(chain) {
		if len(s.Block.Labels) > 0 {
			n.label(s.Name, s.Block.Type)
		}
		for _, v := range s.Via {
			n.label(v.Chain, "chain")
		}
	}
}

func (n *names) ownDomain(d Domain) Domain {
	d.Name, d.Place = n.domain(d.Name), n.place(d.Place)
	d.Values = n.people(d.Values)
	d.Blocks = n.blocks(d.Blocks, false)
	d.Settings = n.blocks(d.Settings, false)
	d.Chains = slices.Clone(d.Chains)
	for i := range d.Chains {
		own := &d.Chains[i]
		own.Listener, own.Place, own.Chain = n.text(own.Listener), n.place(own.Place), n.chain(own.Chain)
	}
	return d
}

func (n *names) chain(list []Step) []Step {
	if list == nil {
		return nil
	}
	out := make([]Step, 0, len(list))
	for _, s := range list {
		if len(s.Block.Labels) > 0 {
			s.Name = n.text(s.Name)
		}
		s.Block = n.block(s.Block, false)
		s.Via = slices.Clone(s.Via)
		for i := range s.Via {
			s.Via[i] = Via{n.label(s.Via[i].Chain, "chain"), n.place(s.Via[i].Place)}
		}
		s.Parallel = n.chain(s.Parallel)
		out = append(out, s)
	}
	return out
}

func (n *names) blocks(list []Block, kind bool) []Block {
	out := make([]Block, 0, len(list))
	for _, b := range list {
		out = append(out, n.block(b, kind))
	}
	return out
}

// block renames what a block has. kind says that its first label is the name of a
// module.
func (n *names) block(b Block, kind bool) Block {
	b.Place, b.Labels = n.place(b.Place), slices.Clone(b.Labels)
	for i := range b.Labels {
		switch {
		case kind && i == 0:
		case kind:
			b.Labels[i] = n.label(b.Labels[i], b.Labels[0])
		case b.Type == "settings" && n.labels[b.Labels[i]] == "":
			// A handler without a label has the name of its module.
		default:
			b.Labels[i] = n.text(b.Labels[i])
		}
	}
	b.Values, b.Blocks = n.values(b.Values), n.blocks(b.Blocks, false)
	return b
}

func (n *names) values(list []Value) []Value {
	out := make([]Value, 0, len(list))
	for _, v := range list {
		out = append(out, n.value(v, n.text))
	}
	return out
}

// people renames the values of a domain, whose bare words are local-parts.
func (n *names) people(list []Value) []Value {
	out := make([]Value, 0, len(list))
	for _, v := range list {
		out = append(out, n.value(v, n.mailbox))
	}
	return out
}

func (n *names) value(v Value, rename func(string) string) Value {
	v.Place, v.Fingerprint, v.Uses = n.place(v.Place), "", slices.Clone(v.Uses)
	for i := range v.Uses {
		u := &v.Uses[i]
		u.Place = n.place(u.Place)
		switch u.Kind {
		case "variable":
			u.Name = n.label(u.Name, "variable")
			if u.By != "" {
				u.By = "MOXLIKE_VAR_" + u.Name
			}
		case "environment":
			u.Name = strings.ToUpper(n.label(u.Name, "environment"))
		default:
			u.Name = n.path(u.Name)
		}
	}
	if v.Source == tuning.FromDefault || !v.Free || v.Text == `"****"` {
		return v
	}
	if value, ok := parsed(v.Text); ok {
		v.Text = literal(renamed(value, rename))
	} else {
		v.Text = n.expression(v.Text)
	}
	return v
}

// renamed gives a value with other texts in it, also those that are keys.
func renamed(value cty.Value, rename func(string) string) cty.Value {
	switch t := value.Type(); {
	case value.IsNull():
		return value
	case t == cty.String:
		return cty.StringVal(rename(value.AsString()))
	case t.IsObjectType() && value.LengthInt() > 0:
		fields := make(map[string]cty.Value)
		for it := value.ElementIterator(); it.Next(); {
			key, element := it.Element()
			fields[rename(key.AsString())] = renamed(element, rename)
		}
		return cty.ObjectVal(fields)
	case t.IsTupleType() && value.LengthInt() > 0:
		var list []cty.Value
		for it := value.ElementIterator(); it.Next(); {
			_, element := it.Element()
			list = append(list, renamed(element, rename))
		}
		return cty.TupleVal(list)
	default:
		return value
	}
}

// words are what expressions consist of beside functions and the fields of tx, and
// the results that checks have.
var words = map[string]bool{
	"tx": true, "true": true, "false": true, "null": true, "for": true, "in": true, "if": true, "else": true, "endif": true, "endfor": true,
	"pass": true, "fail": true, "softfail": true, "neutral": true, "none": true, "temperror": true, "permerror": true, "policy": true,
}

// expression renames the texts and names in an expression that is evaluated for each
// message.
func (n *names) expression(text string) string {
	// The end of a heredoc is one only if a line ends behind it.
	tokens, _ := hclsyntax.LexExpression([]byte(text+"\n"), "", hcl.InitialPos)
	var out strings.Builder
	last := 0
	for i, t := range tokens {
		start, end := t.Range.Start.Byte, min(t.Range.End.Byte, len(text))
		if start >= len(text) {
			break
		}
		replaced := string(t.Bytes)
		switch t.Type {
		case hclsyntax.TokenQuotedLit:
			if !words[replaced] {
				replaced = strings.Trim(literal(cty.StringVal(n.text(replaced))), `"`)
			}
		case hclsyntax.TokenStringLit:
			replaced = n.label(replaced, "text") + "\n"
		case hclsyntax.TokenComment:
			replaced = ""
			if strings.HasSuffix(string(t.Bytes), "\n") && t.Range.End.Byte <= len(text) {
				replaced = "\n"
			}
		case hclsyntax.TokenOHeredoc:
			indented := strings.HasPrefix(replaced, "<<-")
			if replaced = "<<" + delimiter + "\n"; indented {
				replaced = "<<-" + delimiter + "\n"
			}
		case hclsyntax.TokenCHeredoc:
			replaced = delimiter
		case hclsyntax.TokenIdent:
			known := words[replaced] || isField(tokens, i) || i+1 < len(tokens) && tokens[i+1].Type == hclsyntax.TokenOParen
			if !known {
				replaced = strings.ReplaceAll(n.label(replaced, "name"), "-", "_")
			}
		default:
		}
		out.WriteString(text[last:start] + replaced)
		last = end
	}
	return out.String() + text[last:]
}

// delimiter is what heredocs end with.
const delimiter = "TEXT"

// isField tells whether a token is the name of a field of tx, which the program
// knows: not that of a header field, as in tx.header.subject.
func isField(tokens hclsyntax.Tokens, i int) bool {
	if i == 0 || tokens[i-1].Type != hclsyntax.TokenDot {
		return false
	}
	return i < 2 || string(tokens[i-2].Bytes) != "header"
}

// place renames the file or the domain in a place.
func (n *names) place(place string) string {
	if domain, ok := strings.CutPrefix(place, "database: domain "); ok {
		return "database: domain " + n.domain(domain)
	}
	i := strings.LastIndexByte(place, ':')
	if i < 0 {
		return place
	}
	return n.file(place[:i]) + place[i:]
}

// file renames a file of the configuration.
func (n *names) file(name string) string {
	if to, ok := n.files[name]; ok {
		return to
	}
	to := "mox-like.hcl"
	if len(n.files) > 0 {
		to = fmt.Sprintf("include-%d.hcl", len(n.files))
	}
	n.files[name] = to
	return to
}
