package config

import (
	"fmt"
	"io"
	"strings"
)

// Page explains a code of diagnostics: what 'validate --explain' prints.
type Page struct {
	// Code is the diagnostics', such as "chain/no-target".
	Code string
	// Severity is the diagnostics'; where there are both, Error.
	Severity Severity
	// Firm marks warnings that no comment in the file can silence.
	Firm bool
	// Summary is one line, a sentence.
	Summary string
	// Text says what is meant and why it matters, in paragraphs with an empty line
	// between.
	Text string
	// Wrong is a text that gives the diagnostic, Right the same text put right.
	// Both are empty where a text alone cannot have the mistake.
	Wrong, Right string
	// Within is where the examples stand: "" for the top of the file, else "chain",
	// "login chain", "listener" or "domain".
	Within string
}

// Print writes the page for people.
func (p *Page) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s[%s]: %s\n", p.Severity, p.Code, p.Summary)
	if p.Text != "" {
		fmt.Fprintf(&b, "\n%s\n", p.Text)
	}
	where := ""
	if p.Within != "" {
		where = ", in a " + p.Within
	}
	if p.Wrong != "" {
		fmt.Fprintf(&b, "\nWrong%s:\n\n%s", where, indented(p.Wrong))
	}
	if p.Right != "" {
		fmt.Fprintf(&b, "\nRight:\n\n%s", indented(p.Right))
	}
	fmt.Fprintf(&b, "\n%s\n", p.silencing())
	_, err := io.WriteString(w, b.String())
	return err
}

// silencing says how one place is excused.
func (p *Page) silencing() string {
	switch {
	case p.Severity == Error:
		return "It is an error: the server does not run with it, and no comment silences it."
	case p.Firm:
		return "No comment silences it."
	}
	return fmt.Sprintf("For one place it is silenced by a comment at the line, or above the block:\n\n    # validate:ignore %s: REASON", p.Code)
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		if strings.TrimSpace(line) != "" {
			b.WriteString("    ")
		}
		b.WriteString(line)
	}
	return b.String()
}
