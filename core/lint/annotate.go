package lint

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/mox-like/mox-like/core/config"
)

// GitHub's workflow commands end with the line, and their properties with a comma or
// a colon.
var (
	commandData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	commandProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// writeGitHub writes annotations for GitHub Actions, a line each.
func writeGitHub(w io.Writer, reports []*Report) error {
	var b bytes.Buffer
	for _, r := range reports {
		for _, d := range r.Diagnostics {
			file := d.Range.Filename
			if file == "" {
				file = r.File
			}
			fmt.Fprintf(&b, "::%s file=%s", d.Severity, commandProperty.Replace(file))
			if d.Range.Start.Line > 0 {
				fmt.Fprintf(&b, ",line=%d,endLine=%d,col=%d", d.Range.Start.Line, d.Range.End.Line, d.Range.Start.Column)
				if d.Range.Start.Line == d.Range.End.Line {
					fmt.Fprintf(&b, ",endColumn=%d", d.Range.End.Column)
				}
			}
			fmt.Fprintf(&b, ",title=%s::%s\n", commandProperty.Replace(d.Code), commandData.Replace(text(d)))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Failure *junitFailure `xml:"failure"`
		// SystemOut has warnings: they fail nothing.
		SystemOut string `xml:"system-out,omitempty"`
	}
	junitFailure struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes a suite for each configuration, with a case for each finding.
// Errors are failures, warnings are not. One that is clean has one case.
func writeJUnit(w io.Writer, reports []*Report) error {
	all := junitSuites{Name: "mox-like validate"}
	for _, r := range reports {
		suite := junitSuite{Name: r.File}
		for _, d := range r.Diagnostics {
			suite.Cases = append(suite.Cases, newCase(d, r))
			if d.Severity == config.Error {
				suite.Failures++
			}
		}
		if len(suite.Cases) == 0 {
			suite.Cases = []junitCase{{Name: "valid", Class: r.File}}
		}
		suite.Tests = len(suite.Cases)
		all.Tests += suite.Tests
		all.Failures += suite.Failures
		all.Suites = append(all.Suites, suite)
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

func newCase(d config.Diagnostic, r *Report) junitCase {
	var whole bytes.Buffer
	config.Print(&whole, config.Diagnostics{d}, r.Sources, config.PrintOptions{})
	one := junitCase{Name: d.String(), Class: r.File}
	if d.Severity == config.Error {
		one.Failure = &junitFailure{Type: d.Code, Message: d.Summary, Text: whole.String()}
	} else {
		one.SystemOut = whole.String()
	}
	return one
}
