package lint

import (
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core/config"
)

// What follows is the part of SARIF 2.1.0 (OASIS) that there is something to say in.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		ColumnKind  string            `json:"columnKind"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID    string       `json:"id"`
		Short sarifText    `json:"shortDescription"`
		Full  *sarifText   `json:"fullDescription,omitempty"`
		Level *sarifConfig `json:"defaultConfiguration,omitempty"`
	}
	sarifConfig struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifInvocation struct {
		Successful bool `json:"executionSuccessful"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Related      []sarifLocation    `json:"relatedLocations,omitempty"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
		Message  *sarifText    `json:"message,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
		EndLine     int `json:"endLine"`
		EndColumn   int `json:"endColumn"`
	}
)

func writeSARIF(w io.Writer, version string, reports []*Report, c *Catalogue) error {
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{Name: "mox-like", Version: version, Rules: []sarifRule{}}},
		Invocations: []sarifInvocation{{Successful: !slices.ContainsFunc(reports, func(r *Report) bool { return r.Unread })}},
		ColumnKind:  "unicodeCodePoints",
		Results:     []sarifResult{},
	}
	index := make(map[string]int)
	for _, r := range reports {
		for _, d := range r.Diagnostics {
			index[d.Code] = 0
		}
		for _, s := range r.Silenced {
			index[s.Code] = 0
		}
	}
	for i, code := range slices.Sorted(maps.Keys(index)) {
		index[code] = i
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, newRule(code, c))
	}
	for _, r := range reports {
		for _, d := range r.Diagnostics {
			run.Results = append(run.Results, newResult(d, r.File, index[d.Code]))
		}
		for _, s := range r.Silenced {
			one := newResult(s.Diagnostic, r.File, index[s.Code])
			one.Suppressions = []sarifSuppression{{Kind: "inSource", Justification: s.Reason}}
			run.Results = append(run.Results, one)
		}
	}
	return encode(w, sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0", Runs: []sarifRun{run},
	})
}

func newRule(code string, c *Catalogue) sarifRule {
	p, ok := c.Page(code)
	if !ok {
		return sarifRule{ID: code, Short: sarifText{code}}
	}
	rule := sarifRule{ID: code, Short: sarifText{p.Summary}, Level: &sarifConfig{p.Severity.String()}}
	if p.Text != "" {
		rule.Full = &sarifText{p.Text}
	}
	return rule
}

// newResult gives a finding; file is where one without a place is shown.
func newResult(d config.Diagnostic, file string, rule int) sarifResult {
	place := d.Range
	if place.Filename == "" {
		place.Filename = file
	}
	one := sarifResult{RuleID: d.Code, RuleIndex: rule, Level: d.Severity.String(), Message: sarifText{text(d)}, Locations: []sarifLocation{newLocation(place, "")}}
	for _, r := range d.Related {
		if r.Range.Filename != "" {
			one.Related = append(one.Related, newLocation(r.Range, r.Message))
		}
	}
	return one
}

func newLocation(r hcl.Range, message string) sarifLocation {
	l := sarifLocation{Physical: sarifPhysical{Artifact: sarifArtifact{uri(r.Filename)}}}
	if r.Start.Line > 0 {
		l.Physical.Region = &sarifRegion{StartLine: r.Start.Line, StartColumn: r.Start.Column, EndLine: r.End.Line, EndColumn: r.End.Column}
	}
	if message != "" {
		l.Message = &sarifText{message}
	}
	return l
}

// uri gives the reference of a file: relative where its name is.
func uri(name string) string {
	u := url.URL{Path: filepath.ToSlash(name)}
	if filepath.IsAbs(name) {
		u.Scheme = "file"
	}
	return u.String()
}
