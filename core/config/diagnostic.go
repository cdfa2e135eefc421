package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Severity says whether a configuration with this finding can run.
type Severity int

const (
	// Error is a mistake with which the server does not run.
	Error Severity = iota
	// Warning is what runs but should not.
	Warning
)

// String gives "error" or "warning".
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Related is another place that explains a diagnostic.
type Related struct {
	// Message says what stands there, such as "the first one stands here".
	Message string
	// Range is the place.
	Range hcl.Range
}

// Diagnostic is one finding about the configuration.
type Diagnostic struct {
	// Severity is Error or Warning.
	Severity Severity
	// Code is stable, such as "chain/no-target"; programs compare it.
	Code string
	// Summary is one line without a full stop.
	Summary string
	// Detail says what to do, in sentences. It may be empty.
	Detail string
	// Range is the place to underline; the zero value means none.
	Range hcl.Range
	// Related are further places.
	Related []Related
}

// String gives place, severity, summary and code in one line.
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.Range.Filename != "" {
		fmt.Fprintf(&b, "%s: ", place(d.Range))
	}
	fmt.Fprintf(&b, "%s: %s [%s]", d.Severity, d.Summary, d.Code)
	return b.String()
}

// place gives file:line:column, or the file alone where no line is known.
func place(r hcl.Range) string {
	if r.Start.Line == 0 {
		return r.Filename
	}
	return fmt.Sprintf("%s:%d:%d", r.Filename, r.Start.Line, r.Start.Column)
}

// Diagnostics is a list of findings.
type Diagnostics []Diagnostic

// HasErrors tells whether one of them is an error.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == Error })
}

// Count gives the number of errors and of warnings.
func (ds Diagnostics) Count() (errors, warnings int) {
	for _, d := range ds {
		if d.Severity == Error {
			errors++
		} else {
			warnings++
		}
	}
	return errors, warnings
}

// Errorf appends an error; the format gives the summary. The pointer to what was
// appended serves to add a detail or related places, until the next append.
func (ds *Diagnostics) Errorf(r hcl.Range, code, format string, args ...any) *Diagnostic {
	return ds.add(Error, r, code, format, args)
}

// Warnf appends a warning, see Errorf.
func (ds *Diagnostics) Warnf(r hcl.Range, code, format string, args ...any) *Diagnostic {
	return ds.add(Warning, r, code, format, args)
}

func (ds *Diagnostics) add(s Severity, r hcl.Range, code, format string, args []any) *Diagnostic {
	*ds = append(*ds, Diagnostic{Severity: s, Code: code, Summary: fmt.Sprintf(format, args...), Range: r})
	return &(*ds)[len(*ds)-1]
}

// Append appends other lists.
func (ds *Diagnostics) Append(lists ...Diagnostics) {
	for _, list := range lists {
		*ds = append(*ds, list...)
	}
}

// WithDetail sets the detail and gives the diagnostic back.
func (d *Diagnostic) WithDetail(format string, args ...any) *Diagnostic {
	d.Detail = fmt.Sprintf(format, args...)
	return d
}

// WithRelated adds a related place and gives the diagnostic back.
func (d *Diagnostic) WithRelated(r hcl.Range, format string, args ...any) *Diagnostic {
	d.Related = append(d.Related, Related{Message: fmt.Sprintf(format, args...), Range: r})
	return d
}

// Sort orders by file, line and column; those without a place come first, equal
// ones stay in the order in which they were found.
func (ds Diagnostics) Sort() {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(
			strings.Compare(a.Range.Filename, b.Range.Filename),
			cmp.Compare(a.Range.Start.Line, b.Range.Start.Line),
			cmp.Compare(a.Range.Start.Column, b.Range.Start.Column),
		)
	})
}

// Unique gives the findings in order, without those that say the same of the same
// place: several modules may find the same mistake.
func (ds Diagnostics) Unique() Diagnostics {
	ds.Sort()
	type key struct {
		place         hcl.Range
		code, summary string
	}
	seen := make(map[key]bool)
	return slices.DeleteFunc(ds, func(d Diagnostic) bool {
		k := key{d.Range, d.Code, d.Summary}
		again := seen[k]
		seen[k] = true
		return again
	})
}

// Err gives the errors as one error, a line each, nil if there are none. It is
// for callers that cannot show diagnostics; a printer shows more.
func (ds Diagnostics) Err() error {
	var lines []string
	for _, d := range ds {
		if d.Severity == Error {
			lines = append(lines, d.String())
		}
	}
	if lines == nil {
		return nil
	}
	return errors.New(strings.Join(lines, "\n"))
}
