package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mox-like/mox-like/core/control"
)

// maxString is how long one string of a TXT record can be (RFC 1035 section 3.3.14).
const maxString = 255

// printDKIMRecord prints a record for a zone file and for a form.
func printDKIMRecord(w io.Writer, k control.DKIMKey) {
	printDKIMZoneRecord(w, k)
	fmt.Fprint(w, "\nThe same in a form:\n\n")
	printDKIMForm(w, k)
}

// printDKIMForm prints a record as the forms of DNS providers have it, each part on a
// line of its own.
func printDKIMForm(w io.Writer, k control.DKIMKey) {
	relative, domain, _ := strings.Cut(k.Name, "._domainkey.")
	fmt.Fprintf(w, "Type TXT, and the name, which most forms take without %s:\n%s._domainkey\nThe value, in one line:\n%s\n", domain, relative, k.Value)
}

// printDKIMZoneRecord prints a record for a zone file, with what it is in a comment.
func printDKIMZoneRecord(w io.Writer, k control.DKIMKey) {
	fmt.Fprintf(w, "; %s\n", harmless(describeDKIM(k)))
	fmt.Fprintf(w, "%s. IN TXT (\n", k.Name)
	for text := k.Value; text != ""; {
		n := min(len(text), maxString)
		end := "\n"
		if n == len(text) {
			end = " )\n"
		}
		fmt.Fprintf(w, "    %s%s", quoteZone(text[:n]), end)
		text = text[n:]
	}
}

// quoteZone gives a string of a zone file.
func quoteZone(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// describeDKIM says what a key is and how it stands.
func describeDKIM(k control.DKIMKey) string {
	text := k.Selector + ":"
	switch k.Algorithm {
	case "rsa-sha256":
		text += fmt.Sprintf(" RSA, %d bits,", k.Bits)
	case "ed25519-sha256":
		text += " Ed25519,"
	}
	switch k.State {
	case control.DKIMInFile:
		return text + " in the file " + k.File
	case control.DKIMRetiring:
		return text + " retiring: its record must stay until " + utc(k.Until)
	case control.DKIMPending:
		return text + " pending since " + utc(k.Since) + ", not in use yet"
	default:
		return text + " " + k.State + " since " + utc(k.Since)
	}
}

// utc gives a time as a person in another place reads it too.
func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// printDKIMStep prints what was done, the records, and what is to be done next.
func printDKIMStep(w io.Writer, step *control.DKIMStep) {
	between := "" // the parts
	for _, text := range step.Done {
		fmt.Fprintln(w, harmless(text))
		between = "\n"
	}
	if len(step.Publish) > 0 {
		fmt.Fprint(w, between, "Records to publish:\n")
		between = "\n"
		for _, k := range step.Publish {
			fmt.Fprintln(w)
			printDKIMRecord(w, k)
		}
	}
	if len(step.Remove) > 0 {
		fmt.Fprint(w, between, "Records that may be removed:\n")
		between = "\n"
		for _, k := range step.Remove {
			fmt.Fprintf(w, "  %s.\n", k.Name)
		}
	}
	if len(step.Next) > 0 {
		fmt.Fprint(w, between, "Next:\n")
		for _, text := range step.Next {
			fmt.Fprintf(w, "- %s\n", harmless(text))
		}
	}
}

// printDKIMKeyFile prints what is to be done with a key in a file. asRoot says that
// the file belongs to root.
func printDKIMKeyFile(w io.Writer, k control.DKIMKey, asRoot bool) {
	fmt.Fprintf(w, "Wrote a private key into %s, for its owner alone.\n", harmless(k.File))
	if asRoot {
		fmt.Fprintf(w, "It belongs to root. If the server runs as another user: chown USER %s\n", shellQuote(k.File))
	}
	fmt.Fprintf(w, "\nWrite into the block domain %q, and reload once the DNS has the record:\n\n", k.Domain)
	fmt.Fprintf(w, "  dkim {\n    selector = %q\n    key_file = %q\n  }\n\nRecord to publish:\n\n", k.Selector, k.File)
	printDKIMRecord(w, k)
}

// printDKIMZone prints the records of a domain's keys as a part of its zone, or for a
// form.
func printDKIMZone(w io.Writer, domain string, keys []control.DKIMKey, form bool) {
	publish := slices.DeleteFunc(slices.Clone(keys), func(k control.DKIMKey) bool { return k.State == control.DKIMRetired || k.Value == "" })
	if len(publish) == 0 {
		fmt.Fprintf(w, "; %s has no keys to publish; 'mox-like dkim keygen %[1]s' makes some\n", harmless(domain))
	}
	for i, k := range publish {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if form {
			fmt.Fprintf(w, "; %s\n", harmless(describeDKIM(k)))
			printDKIMForm(w, k)
			continue
		}
		printDKIMZoneRecord(w, k)
	}
	for _, k := range keys {
		for _, f := range k.Findings {
			fmt.Fprintf(w, "\n; %s: %s\n", k.Selector, harmless(f.Text))
		}
	}
	first := true
	for _, k := range keys {
		if k.State != control.DKIMRetired {
			continue
		}
		if first {
			fmt.Fprint(w, "\n; These may be removed, or published with an empty p=, which revokes the key:\n")
			first = false
		}
		fmt.Fprintf(w, "; %s. (retired since %s)\n", k.Name, utc(k.Since))
	}
}

// printDKIMReport prints how the keys of a domain stand in the DNS.
func printDKIMReport(w io.Writer, r *control.DKIMReport) {
	fmt.Fprintln(w, harmless(r.Domain))
	for _, f := range r.Findings {
		fmt.Fprintf(w, "  %s%s\n", severity(f), harmless(f.Text))
	}
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var publish []control.DKIMKey
	for _, k := range r.Keys {
		says := []string{"good"}
		if len(k.Findings) > 0 {
			says = nil
		}
		for _, f := range k.Findings {
			says = append(says, severity(f)+f.Text)
			if slices.Contains([]string{"missing", "differs", "revoked", "syntax"}, f.Code) && k.Value != "" {
				publish = append(publish, k)
			}
		}
		algorithm := k.Algorithm
		if k.Algorithm == "rsa-sha256" {
			algorithm = fmt.Sprintf("%s %d", k.Algorithm, k.Bits)
		}
		for i, text := range says {
			cells := []string{k.Selector, k.State, algorithm, text}
			if i > 0 {
				cells = []string{"", "", "", text}
			}
			fmt.Fprintf(columns, "  %s\n", strings.Join(harmlessAll(cells), "\t"))
		}
	}
	_ = columns.Flush() // what w says is said by the next write
	if len(publish) > 0 {
		fmt.Fprint(w, "\nRecords to publish:\n")
	}
	for _, k := range publish {
		fmt.Fprintln(w)
		printDKIMRecord(w, k)
	}
}

// severity begins a finding.
func severity(f control.DKIMFinding) string {
	switch {
	case f.Wrong:
		return "WRONG: "
	case f.Code == control.DKIMUnknown:
		return "not known: "
	default:
		return ""
	}
}

// harmlessAll makes cells of a table harmless.
func harmlessAll(cells []string) []string {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(harmless(c), "\t", " ")
	}
	return cells
}
