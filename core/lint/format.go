package lint

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core/config"
)

// Formats are the names of the forms for programs.
var Formats = []string{"json", "sarif", "github", "junit"}

// Write writes reports for programs, in one of Formats. version is the program's.
func Write(w io.Writer, format, version string, reports []*Report, c *Catalogue) error {
	switch format {
	case "json":
		return writeJSON(w, reports)
	case "sarif":
		return writeSARIF(w, version, reports, c)
	case "github":
		return writeGitHub(w, reports)
	case "junit":
		return writeJUnit(w, reports)
	}
	return fmt.Errorf("write diagnostics: there is no format %q", format)
}

// FormatVersion is the version of the JSON. It grows when something in it changes
// its meaning or is gone; what is added does not count. docs/validate.schema.json is
// its schema.
const FormatVersion = 1

type reportJSON struct {
	Version     int              `json:"version"`
	Errors      int              `json:"errors"`
	Warnings    int              `json:"warnings"`
	Diagnostics []diagnosticJSON `json:"diagnostics"`
	Silenced    []diagnosticJSON `json:"silenced"`
	NotChecked  []string         `json:"not_checked"`
}

type diagnosticJSON struct {
	Severity string        `json:"severity"`
	Code     string        `json:"code"`
	Summary  string        `json:"summary"`
	Detail   string        `json:"detail,omitempty"`
	Range    *rangeJSON    `json:"range,omitempty"`
	Related  []relatedJSON `json:"related,omitempty"`
	Reason   string        `json:"reason,omitempty"`
}

type relatedJSON struct {
	Message string     `json:"message"`
	Range   *rangeJSON `json:"range,omitempty"`
}

// rangeJSON is a place; lines and columns count from 1, bytes from 0.
type rangeJSON struct {
	Filename string  `json:"filename"`
	Start    posJSON `json:"start"`
	End      posJSON `json:"end"`
}

type posJSON struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

func writeJSON(w io.Writer, reports []*Report) error {
	out := reportJSON{Version: FormatVersion, Diagnostics: []diagnosticJSON{}, Silenced: []diagnosticJSON{}, NotChecked: []string{}}
	for _, r := range reports {
		errors, warnings := r.Diagnostics.Count()
		out.Errors += errors
		out.Warnings += warnings
		for _, d := range r.Diagnostics {
			out.Diagnostics = append(out.Diagnostics, newDiagnosticJSON(d, ""))
		}
		for _, s := range r.Silenced {
			out.Silenced = append(out.Silenced, newDiagnosticJSON(s.Diagnostic, s.Reason))
		}
		out.NotChecked = append(out.NotChecked, r.NotChecked)
	}
	return encode(w, out)
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func newDiagnosticJSON(d config.Diagnostic, reason string) diagnosticJSON {
	one := diagnosticJSON{Severity: d.Severity.String(), Code: d.Code, Summary: d.Summary, Detail: d.Detail, Range: newRangeJSON(d.Range), Reason: reason}
	for _, r := range d.Related {
		one.Related = append(one.Related, relatedJSON{Message: r.Message, Range: newRangeJSON(r.Range)})
	}
	return one
}

func newRangeJSON(r hcl.Range) *rangeJSON {
	if r.Filename == "" {
		return nil
	}
	return &rangeJSON{Filename: r.Filename, Start: posJSON(r.Start), End: posJSON(r.End)}
}

// text is what formats without a place for the detail show.
func text(d config.Diagnostic) string {
	if d.Detail == "" {
		return d.Summary
	}
	return d.Summary + ". " + d.Detail
}
