package control

import (
	"encoding/json"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core/config"
)

// Report is what was found in a configuration.
type Report struct {
	Diagnostics config.Diagnostics
	// Sources are the texts that the diagnostics point into, without secrets.
	Sources map[string][]byte
}

// reportJSON is a report as it goes over HTTP. Its form is stable, and that of
// 'validate --format json'.
type reportJSON struct {
	Diagnostics []diagnosticJSON  `json:"diagnostics" doc:"What was found, in the order of the files."`
	Sources     map[string][]byte `json:"sources,omitempty" doc:"The texts that the diagnostics point into, by name, without secrets."`
}

// diagnosticJSON is one finding about the configuration.
type diagnosticJSON struct {
	Severity string        `json:"severity" enum:"error,warning" doc:"An error keeps the configuration from running."`
	Code     string        `json:"code" doc:"Stable, for programs." example:"config/out-of-range"`
	Summary  string        `json:"summary" doc:"What is wrong, in one line."`
	Detail   string        `json:"detail,omitempty" doc:"What to do."`
	Range    *rangeJSON    `json:"range,omitempty" doc:"The place, where there is one."`
	Related  []relatedJSON `json:"related,omitempty" doc:"Further places that explain it."`
}

// relatedJSON is another place that explains a finding.
type relatedJSON struct {
	Message string     `json:"message"`
	Range   *rangeJSON `json:"range,omitempty"`
}

// rangeJSON is a place.
type rangeJSON struct {
	Filename string  `json:"filename"`
	Start    posJSON `json:"start"`
	End      posJSON `json:"end"`
}

// posJSON is a position; lines and columns count from 1, bytes from 0.
type posJSON struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// MarshalJSON gives the report's stable JSON form. Of the sources it has those that
// the diagnostics point into.
func (r Report) MarshalJSON() ([]byte, error) {
	j := reportJSON{Diagnostics: make([]diagnosticJSON, 0, len(r.Diagnostics)), Sources: make(map[string][]byte)}
	point := func(place hcl.Range) {
		if text, ok := r.Sources[place.Filename]; ok {
			j.Sources[place.Filename] = text
		}
	}
	for _, d := range r.Diagnostics {
		point(d.Range)
		one := diagnosticJSON{Severity: d.Severity.String(), Code: d.Code, Summary: d.Summary, Detail: d.Detail, Range: newRangeJSON(d.Range)}
		for _, related := range d.Related {
			point(related.Range)
			one.Related = append(one.Related, relatedJSON{Message: related.Message, Range: newRangeJSON(related.Range)})
		}
		j.Diagnostics = append(j.Diagnostics, one)
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON gives.
func (r *Report) UnmarshalJSON(data []byte) error {
	var j reportJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*r = Report{Sources: j.Sources}
	for _, one := range j.Diagnostics {
		d := config.Diagnostic{Code: one.Code, Summary: one.Summary, Detail: one.Detail, Range: one.Range.place()}
		if one.Severity != config.Error.String() {
			d.Severity = config.Warning
		}
		for _, related := range one.Related {
			d.Related = append(d.Related, config.Related{Message: related.Message, Range: related.Range.place()})
		}
		r.Diagnostics = append(r.Diagnostics, d)
	}
	return nil
}

func newRangeJSON(r hcl.Range) *rangeJSON {
	if r.Filename == "" {
		return nil
	}
	return &rangeJSON{Filename: r.Filename, Start: posJSON(r.Start), End: posJSON(r.End)}
}

func (r *rangeJSON) place() hcl.Range {
	if r == nil {
		return hcl.Range{}
	}
	return hcl.Range{Filename: r.Filename, Start: hcl.Pos(r.Start), End: hcl.Pos(r.End)}
}
