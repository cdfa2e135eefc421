package rspamd

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

// TestRspamdsFields has the real rspamd change fields: the message says which.
func TestRspamdsFields(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		milter string
		fields string // of the message
		want   []string
	}{
		"forms": {
			`{"add_headers": {"X-Text": "one", "X-Number": 7, "X-Object": {"value": "two", "order": 1}, "X-First": {"value": "top", "order": 0}, "X-List": ["three", {"value": "four"}]}}`, "",
			[]string{"X-First: top", "X-Object: two", "X-List: three", "X-List: four", "X-Number: 7", "X-Text: one"},
		},
		"folded":    {`{"add_headers": {"X-Folded": "one\n\ttwo\r\n three"}}`, "", []string{"X-Folded: one\r\n\ttwo\r\n\tthree"}},
		"injection": {`{"add_headers": {"X-A": "one\r\nX-Forged: yes\r\n\r\nBody", "X-B:": "x", "X C": "x", "X-Mox-Like-Tags": "x"}}`, "", []string{"X-A: one\r\n\tX-Forged: yes\r\n\tBody"}},
		"empty":     {`{"add_headers": {}, "remove_headers": {}}`, "X-A: 1\r\n", []string{"X-A: 1"}},
		"all go":    {`{"remove_headers": {"x-a": 0}}`, "X-A: 1\r\nX-B: 2\r\nX-A: 3\r\n", []string{"X-B: 2"}},
		"first":     {`{"remove_headers": {"X-A": 1}}`, "X-A: 1\r\nX-A: 2\r\nX-A: 3\r\n", []string{"X-A: 2", "X-A: 3"}},
		"last":      {`{"remove_headers": {"X-A": -1}}`, "X-A: 1\r\nX-A: 2\r\nX-A: 3\r\n", []string{"X-A: 1", "X-A: 2"}},
		"two":       {`{"remove_headers": {"X-A": [1, 3]}}`, "X-A: 1\r\nX-A: 2\r\nX-A: 3\r\n", []string{"X-A: 2"}},
		"none there": {
			`{"remove_headers": {"X-A": 4, "X-B": -2, "X-C": 1, "X-Mox-Like-Tags": 0}}`, "X-A: 1\r\nX-B: 2\r\n", []string{"X-A: 1", "X-B: 2"},
		},
		"replaced": {`{"add_headers": {"X-A": "new"}, "remove_headers": {"X-A": 0}}`, "X-A: old\r\n", []string{"X-A: new"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := newTransaction(t, letter(test.fields+"X-Test-Milter: "+test.milter+"\r\n"))
			got, err := newHandler(t, rspamd.TCP, nil).Handle(t.Context(), tx)
			if err != nil || got.Action != mail.ActionContinue {
				t.Fatalf("verdict %+v, %v", got, err)
			}
			if diff := cmp.Diff(test.want, extensions(t, tx)); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

// extensions gives the fields of tests that a message has.
func extensions(tb testing.TB, tx *mail.Transaction) []string {
	tb.Helper()
	var fields []string
	for _, f := range fieldsOf(tb, tx).Fields {
		if !strings.HasPrefix(f.Name, "X-Spam") && !strings.HasPrefix(f.Name, "X-Test") && (strings.HasPrefix(f.Name, "X-") || f.Name == "DKIM-Signature" || f.Name == "") {
			fields = append(fields, strings.TrimSuffix(string(f.Raw), "\r\n"))
		}
	}
	return fields
}

// TestPlaces: fields are counted as rspamd has seen them, with those that the
// server has added and without those that a handler has removed.
func TestPlaces(t *testing.T) {
	t.Parallel()
	tests := map[int][]string{
		1:  {"X-A: added", "X-A: 2", "X-A: 2", "X-A: 4"}, // the server's own stays
		2:  {"X-A: added", "X-A: 2", "X-A: 4"},
		4:  {"X-A: added", "X-A: 2", "X-A: 2"},
		-1: {"X-A: added", "X-A: 2", "X-A: 2"},
		-4: {"X-A: added", "X-A: 2", "X-A: 2", "X-A: 4"},
		-5: {"X-A: added", "X-A: 2", "X-A: 2", "X-A: 4"},
	}
	for place, want := range tests {
		tx := newTransaction(t, "X-A: 1\r\nX-A: 2\r\nFrom: a@example.org\r\nX-A: 2\r\nX-A: 4\r\n\r\n")
		tx.AddHeaderField("X-A", "added")
		tx.RemoveHeaderField(0)
		r, err := tx.Rendered()
		if err != nil {
			t.Fatal(err)
		}
		changes{remove: []removal{{"x-a", place}}}.apply(tx, r.Head())
		if diff := cmp.Diff(want, extensions(t, tx)); diff != "" {
			t.Errorf("place %d (-want +got):\n%s", place, diff)
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	signature := "v=1; a=rsa-sha256; d=example.org;\n\ts=one; b=AAAA"
	folded := "v=1; a=rsa-sha256; d=example.org;\r\n\ts=one; b=AAAA"
	many := make(map[string]string)
	for _, a := range "abcdefghijklmnop" {
		for _, b := range "abcdefgh" {
			many["X-"+string(a)+string(b)] = "x"
		}
	}
	manyText, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("word ", 400)
	tests := map[string]struct {
		milter     string
		signatures texts
		want       changes
		fault      string
	}{
		"nothing":            {`{}`, nil, changes{}, ""},
		"signature":          {`{}`, texts{signature}, changes{add: []addition{{name: "DKIM-Signature", value: folded}}}, ""},
		"signature twice":    {`{"add_headers": {"DKIM-Signature": {"order": 1, "value": "` + strings.ReplaceAll(strings.ReplaceAll(signature, "\n", `\n`), "\t", `\t`) + `"}}}`, texts{signature}, changes{add: []addition{{"DKIM-Signature", folded, 1}}}, ""},
		"control characters": {`{"add_headers": {"X-A": "a\u0000b\u001b[m\u007f"}}`, nil, changes{add: []addition{{"X-A", "a?b?[m?", 100}}}, ""},
		"list of lists":      {`{"add_headers": {"X-A": [["x"]]}}`, nil, changes{}, "add_headers are not of the right form"},
		"no value":           {`{"add_headers": {"X-A": {"order": 1}}}`, nil, changes{}, "a field has no value"},
		"lists for empty":    {`{"add_headers": [], "remove_headers": []}`, nil, changes{}, ""},
		"removal by text":    {`{"remove_headers": {"X-A": "first"}}`, nil, changes{}, "remove_headers are not of the right form"},
		"huge order":         {`{"add_headers": {"X-A": {"value": "x", "order": 1e300}, "X-B": {"value": "x", "order": -1}}}`, nil, changes{add: []addition{{"X-A", "x", 100}, {"X-B", "x", 100}}}, ""},
		"long lines":         {`{"add_headers": {"X-A": "` + long + `"}}`, nil, changes{add: []addition{{"X-A", strings.TrimSpace(long[:900]) + "\r\n\t" + strings.TrimSpace(long[900:1800]) + "\r\n\t" + strings.TrimSpace(long[1800:]), 100}}}, ""},
		"names":              {`{"add_headers": {"": "x", "X:": "x", "X Y": "x", "X-\u00fc": "x", "x-mox-like-id": "x", "` + strings.Repeat("x", 77) + `": "x"}, "remove_headers": {"": 0, "X-Mox-Like-Tags": [1, 2]}}`, nil, changes{left: 9}, ""},
		"long word":          {`{"add_headers": {"X-A": "` + strings.Repeat("x", 901) + `"}}`, nil, changes{left: 1}, ""},
		"long value":         {`{"add_headers": {"X-A": "` + strings.Repeat(long, 10) + `"}}`, nil, changes{left: 1}, ""},
		"too many":           {`{"add_headers": ` + string(manyText) + `}`, nil, changes{left: 28}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var milter map[string]json.RawMessage
			if err := json.Unmarshal([]byte(test.milter), &milter); err != nil {
				t.Fatal(err)
			}
			got, err := parseChanges(milter, test.signatures)
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) {
					t.Errorf("error %v, want %q", err, test.fault)
				}
				return
			}
			if name == "too many" {
				got.add = nil
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(changes{}, addition{}, removal{})); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}
