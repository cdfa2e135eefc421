package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

func TestIDIn(t *testing.T) {
	t.Parallel()
	const id = "1m88apd249333twxv2"
	for _, text := range []string{
		id, " " + id + "\n", "(id " + id + ")",
		"550 5.7.23 SPF: 203.0.113.9 may not send mail for example.org (id " + id + ")",
		"250 2.0.0 OK: kept as " + id, "by mx.example.org with ESMTPS id " + id + ";", "<" + id + ">",
	} {
		if got := idIn(text); got != id {
			t.Errorf("in %q is the id %q", text, got)
		}
	}
	for _, text := range []string{"", "()"} {
		if got := idIn(text); got != text {
			t.Errorf("in %q is the id %q", text, got)
		}
	}
}

// paged gives a session in pages.
type paged struct {
	control.Operations

	pages map[string]*trace.Found
}

func (p *paged) Trace(_ context.Context, id, after string) (*trace.Found, error) {
	if found := p.pages[id+after]; found != nil {
		return found, nil
	}
	return nil, control.ErrNotFound
}

func (p *paged) FindTraces(context.Context, trace.Filter, int) (*trace.Found, error) {
	return p.pages["find"], nil
}

// TestStored shows all pages of a session, and says what is missing.
func TestStored(t *testing.T) {
	t.Parallel()
	one, two := &trace.Record{ID: "one"}, &trace.Record{ID: "two"}
	ops := &paged{pages: map[string]*trace.Found{
		"s":    {Records: []*trace.Record{one}, Next: "one", Damaged: 1},
		"sone": {Records: []*trace.Record{two}},
		"find": {Records: []*trace.Record{one}, Cut: true, Damaged: 2},
	}}
	for name, test := range map[string]struct {
		options         TraceOptions
		shown, says, is string
	}{
		"session": {TraceOptions{ID: "s"}, "one two", "1 trace cannot be read", ""},
		"search":  {TraceOptions{Last: 20}, "one", "the newest 1 of those that match", ""},
		"check":   {TraceOptions{ID: "check-x"}, "", "", "it is of a check, which leaves none"},
		"unknown": {TraceOptions{ID: "x"}, "", "", "mistyped, or too old"},
		"neither": {TraceOptions{}, "", "", ""},
	} {
		var said bytes.Buffer
		var shown []string
		err := test.options.stored(t.Context(), ops, Streams{Err: &said}, func(r *trace.Record) error {
			shown = append(shown, r.ID)
			return nil
		})
		if got := strings.Join(shown, " "); got != test.shown || !strings.Contains(said.String(), test.says) || test.says == "" && said.Len() > 0 {
			t.Errorf("%s: shown %q, said %q", name, got, said.String())
		}
		if (err == nil) != (test.is == "") || err != nil && !strings.Contains(err.Error(), test.is) {
			t.Errorf("%s: error %v, want %q", name, err, test.is)
		}
	}
}

// TestDeliveredInSpite: what a handler wanted to quarantine and another let through is
// shown as accepted.
func TestDeliveredInSpite(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &tracePrinter{w: &out}
	r := &trace.Record{
		Kind: trace.KindMessage, ID: "m", Outcome: trace.Outcome{Action: "accept", Handler: "deliver"},
		Entries: []mail.Entry{{Stage: mail.StageData, Handler: "lottery", Action: mail.ActionQuarantine}},
	}
	if err := p.print(r); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "accept by deliver") || strings.Contains(got, "kept out") {
		t.Errorf("shown as\n%s", got)
	}
}

// TestSuggestedFlag: all commands say which flag was probably meant.
func TestSuggestedFlag(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, says string }{
		{"trace --sincee 2h", "did you mean --since?\nSee 'mox-like trace --help'"},
		{"quarantine list --usr x", "did you mean --user?"},
		{"validate --strikt", "did you mean --strict?"},
		{"stats --zzzzzz", "unknown flag: --zzzzzz\n"},
	} {
		var out, said bytes.Buffer
		code := Run(t.Context(), strings.Fields(test.args), Streams{In: strings.NewReader(""), Out: &out, Err: &said})
		if code != exitFailed || !strings.Contains(said.String(), test.says) {
			t.Errorf("%s: status %d, said %q", test.args, code, said.String())
		}
	}
}
