package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// FromHCL converts the diagnostics of the HCL library; code names them where
// nothing more exact is known, "hcl/syntax" for instance.
func FromHCL(code string, list hcl.Diagnostics) Diagnostics {
	var ds Diagnostics
	for _, h := range list {
		d := Diagnostic{Code: code, Summary: lowerFirst(h.Summary), Detail: h.Detail}
		if h.Severity == hcl.DiagWarning {
			d.Severity = Warning
		}
		if h.Subject != nil {
			d.Range = *h.Subject
		}
		d.reword(h)
		ds = append(ds, d)
	}
	return ds
}

// ourWords puts the library's word for an attribute into ours.
var ourWords = strings.NewReplacer("An argument", "An attribute", "argument", "attribute", "Argument", "Attribute")

// How the library words what functions say.
var (
	callFailed      = regexp.MustCompile(`(?s)^Call to function "(\w+)" failed: (.*)\.$`)
	invalidArgument = regexp.MustCompile(`(?s)^Invalid value for "(\w+)" parameter: (.*)\.$`)
	noFunction      = regexp.MustCompile(`^There is no function named "([^"]*)"\.\s*(.*)$`)
)

// reword gives a diagnostic of the library its code and our words. The library
// tells its diagnostics apart by their summary only.
func (d *Diagnostic) reword(h *hcl.Diagnostic) {
	switch h.Summary {
	case "Attribute redefined":
		d.Code = "config/duplicate-attribute"
	case "Unknown variable", "Variables not allowed":
		d.Code = "expr/unknown-name"
	case "Call to unknown function", "Function calls not allowed":
		d.Code = "expr/unknown-function"
		if m := noFunction.FindStringSubmatch(h.Detail); m != nil {
			d.Summary = fmt.Sprintf("there is no function %q", m[1])
			d.Detail = didYouMean(m[1], functionNames, "The functions are "+strings.Join(functionNames, ", ")+".")
		}
	case "Error in function call":
		d.Code = "expr/function"
		if h.Expression != nil {
			d.Range = h.Expression.Range()
		}
		if m := callFailed.FindStringSubmatch(h.Detail); m != nil {
			d.functionError(m[1]+": ", m[2])
		}
	case "Invalid function argument":
		d.Code = "expr/function"
		if m := invalidArgument.FindStringSubmatch(h.Detail); m != nil {
			d.functionError(fmt.Sprintf("argument %q: ", m[1]), m[2])
		}
	case "Too many function arguments", "Not enough function arguments":
		d.Code = "expr/function"
	}
	if d.Code == "hcl/syntax" {
		d.Summary, d.Detail = ourWords.Replace(d.Summary), ourWords.Replace(d.Detail)
	}
}

// functionError takes over a function's message: what is wrong, and after a
// semicolon what to do.
func (d *Diagnostic) functionError(prefix, message string) {
	what, way, more := strings.Cut(message, "; ")
	d.Summary, d.Detail = prefix+what, ""
	if more {
		d.Detail = capital(way) + "."
	}
}

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[n:]
}
