package lint_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/lint"
)

// reports has findings with all that formats must take: no place, a place in a file
// with an awkward name, related places, signs that mean something elsewhere.
func reports() []*lint.Report {
	at := func(name string, line, column int) hcl.Range {
		return hcl.Range{Filename: name, Start: hcl.Pos{Line: line, Column: column, Byte: 3}, End: hcl.Pos{Line: line, Column: column + 4, Byte: 7}}
	}
	var ds config.Diagnostics
	ds.Errorf(at("/etc/a,b:c 100%.hcl", 2, 3), "chain/no-target", "this <chain> & that \"one\" end, 100%%").
		WithDetail("First line.\nSecond line: done.\r\n::error::no").WithRelated(at("other.hcl", 7, 1), "it begins here").WithRelated(hcl.Range{}, "nowhere")
	ds.Warnf(hcl.Range{}, "config/unknown-variable", "no place\x01")
	ds.Warnf(hcl.Range{Filename: "whole.hcl"}, "x.y", "a file as a whole")
	var silenced config.Diagnostics
	silenced.Warnf(at("main.hcl", 9, 1), "chain/unused", "no chain uses %q", "spare")
	return []*lint.Report{
		{File: "main.hcl", Diagnostics: ds, Silenced: []lint.Silenced{{Diagnostic: silenced[0], Reason: "the second site"}}, NotChecked: "Not checked: much."},
		{File: "clean.hcl", NotChecked: "Not checked: much."},
	}
}

func written(t *testing.T, format string, list []*lint.Report) []byte {
	t.Helper()
	c, err := lint.NewCatalogue(new(core.Registry))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := lint.Write(&b, format, "v1.2.3", list, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestJSONFitsItsSchema(t *testing.T) {
	t.Parallel()
	s := readSchema(t, "../../docs/validate.schema.json")
	for name, list := range map[string][]*lint.Report{"findings": reports(), "none": nil} {
		if faults := s.validate(written(t, "json", list)); len(faults) > 0 {
			t.Errorf("%s: %s", name, strings.Join(faults, "\n"))
		}
	}
	if faults := s.validate([]byte(`{"version": 2, "errors": -1, "warnings": 0, "diagnostics": [{"code": "a"}], "silenced": [], "extra": 1}`)); len(faults) < 5 {
		t.Errorf("the schema lets pass what is wrong: %q", faults)
	}
}

func TestSARIFFitsItsSchema(t *testing.T) {
	t.Parallel()
	s := readSchema(t, "testdata/sarif-schema-2.1.0.json")
	for name, list := range map[string][]*lint.Report{"findings": reports(), "none": nil} {
		if faults := s.validate(written(t, "sarif", list)); len(faults) > 0 {
			t.Errorf("%s: %s", name, strings.Join(faults, "\n"))
		}
	}
	if faults := s.validate([]byte(`{"version": "2.1.0", "runs": [{"results": [{"level": "fatal"}]}]}`)); len(faults) < 3 {
		t.Errorf("the schema lets pass what is wrong: %q", faults)
	}
}

func TestSARIF(t *testing.T) {
	t.Parallel()
	var got struct {
		Runs []struct {
			Tool struct {
				Driver struct {
					Version string
					Rules   []struct{ ID string }
				}
			}
			Results []struct {
				RuleID    string `json:"ruleId"`
				RuleIndex int    `json:"ruleIndex"`
				Locations []struct {
					PhysicalLocation struct{ ArtifactLocation struct{ URI string } }
				}
				Related      []any `json:"relatedLocations"`
				Suppressions []struct{ Justification string }
			}
		}
	}
	if err := json.Unmarshal(written(t, "sarif", reports()), &got); err != nil {
		t.Fatal(err)
	}
	run := got.Runs[0]
	if len(run.Results) != 4 || len(run.Tool.Driver.Rules) != 4 || run.Tool.Driver.Version != "v1.2.3" {
		t.Fatalf("run %+v", run)
	}
	for _, r := range run.Results {
		if id := run.Tool.Driver.Rules[r.RuleIndex].ID; id != r.RuleID {
			t.Errorf("the result of %s refers to the rule %s", r.RuleID, id)
		}
	}
	first, last := run.Results[0], run.Results[3]
	if uri := first.Locations[0].PhysicalLocation.ArtifactLocation.URI; uri != "file:///etc/a,b:c%20100%25.hcl" {
		t.Errorf("URI %q", uri)
	}
	if len(first.Related) != 1 || len(last.Suppressions) != 1 || last.Suppressions[0].Justification != "the second site" {
		t.Errorf("first %+v, last %+v", first, last)
	}
}

func TestGitHub(t *testing.T) {
	t.Parallel()
	want := "::error file=/etc/a%2Cb%3Ac 100%25.hcl,line=2,endLine=2,col=3,endColumn=7,title=chain/no-target::" +
		"this <chain> & that \"one\" end, 100%25. First line.%0ASecond line: done.%0D%0A::error::no\n" +
		"::warning file=main.hcl,title=config/unknown-variable::no place\x01\n" +
		"::warning file=whole.hcl,title=x.y::a file as a whole\n"
	if diff := cmp.Diff(want, string(written(t, "github", reports()))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestJUnit(t *testing.T) {
	t.Parallel()
	text := written(t, "junit", reports())
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
	var got struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suites   []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Type    string `xml:"type,attr"`
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.Tests != 4 || got.Failures != 1 || len(got.Suites) != 2 || len(got.Suites[1].Cases) != 1 || got.Suites[1].Cases[0].Failure != nil {
		t.Fatalf("suites %+v", got)
	}
	if f := got.Suites[0].Cases[0].Failure; f == nil || f.Type != "chain/no-target" || f.Message != `this <chain> & that "one" end, 100%` {
		t.Errorf("failure %+v", f)
	}
}

func TestUnknownFormat(t *testing.T) {
	t.Parallel()
	if err := lint.Write(io.Discard, "yaml", "", nil, nil); err == nil {
		t.Error("yaml is written")
	}
}
