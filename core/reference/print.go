package reference

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// width is that of a terminal, in characters.
const width = 78

// PrintText explains an entry on a terminal.
func PrintText(w io.Writer, e Entry) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n", e.Namespace(), e.Name())
	if e.Text != "" {
		fmt.Fprintf(&b, "\n%s", wrap(e.Text, ""))
	}
	if e.Stages != nil {
		fmt.Fprintf(&b, "\nActs at %s.%s\n", strings.Join(e.Stages, ", "), stageNote(e))
	}
	for _, s := range e.Settings {
		fmt.Fprintf(&b, "\n  %s  (%s)\n", name(s), s.Facts())
		b.WriteString(wrap(s.Text, "      "))
	}
	if len(e.Settings) == 0 {
		b.WriteString("\nIt has no settings.\n")
	}
	if e.Namespace() == "handler" {
		b.WriteString("\n" + wrap("Every handler also has what 'mox-like modules block.handler' explains: a name of its own, enabled, when, on_error, on_timeout, timeout and mode.", ""))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// name gives the path of a setting, or what stands for blocks of any name.
func name(s Setting) string {
	if s.Name == "" {
		return s.Path + "…"
	}
	return s.Path
}

func stageNote(e Entry) string {
	if e.StageAttribute {
		return " The attribute stage chooses among them."
	}
	return ""
}

// wrap breaks a text into lines; an empty line stays between paragraphs.
func wrap(text, indent string) string {
	var b strings.Builder
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		column := 0
		for word := range strings.FieldsSeq(paragraph) {
			n := utf8.RuneCountInString(word)
			switch {
			case column == 0:
				b.WriteString(indent)
				column = len(indent)
			case column+1+n > width:
				b.WriteString("\n" + indent)
				column = len(indent)
			default:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += n
		}
		if column > 0 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// section is a part of the page of all modules.
type section struct{ namespace, title, text string }

var sections = []section{
	{"block", "Blocks of the core", "What stands at the top of the file, and what every listener and every handler has beside its own settings."},
	{"listener", "Listeners", "`listener \"KIND\" \"NAME\" { … }` at the top of the file, with a `chain` inside."},
	{"handler", "Handlers", "Blocks inside a chain, asked in the order of the file."},
	{"domain", "Blocks of domains", "Blocks inside `domain \"NAME\" { … }`: what a domain has of its own."},
	{"tls", "Certificates", "`tls \"KIND\" \"NAME\" { … }` at the top of the file."},
}

// PrintMarkdown explains all entries in one page.
func PrintMarkdown(w io.Writer, entries []Entry) error {
	var b bytes.Buffer
	b.WriteString("# Modules and their settings\n\nGenerated from the source by `go generate ./modules/standard`. `mox-like modules NAME` prints the same.\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", s.title, s.text)
		for _, e := range entries {
			if e.Namespace() == s.namespace {
				markdownEntry(&b, e)
			}
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func markdownEntry(b *bytes.Buffer, e Entry) {
	fmt.Fprintf(b, "\n### %s\n", e.Name())
	if e.Text != "" {
		fmt.Fprintf(b, "\n%s\n", e.Text)
	}
	if e.Stages != nil {
		fmt.Fprintf(b, "\nActs at %s.%s\n", strings.Join(e.Stages, ", "), stageNote(e))
	}
	if len(e.Settings) == 0 {
		b.WriteString("\nIt has no settings.\n")
		return
	}
	b.WriteString("\n| setting | value | meaning |\n|---|---|---|\n")
	for _, s := range e.Settings {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name(s), cell(s.Facts()), cell(s.Text))
	}
}

// cell makes a text fit for a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "\\|")
}
