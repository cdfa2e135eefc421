package rspamd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

// seen is an answer of rspamd 3.4, shortened.
const seen = `{"is_skipped":false,"score":7.600000,"required_score":15.0,"action":"add header","symbols":{` +
	`"RDNS_NONE":{"name":"RDNS_NONE","score":1.0,"metric_score":1.0,"description":"Cannot resolve reverse DNS for sender's IP"},` +
	`"TEST_SCORE":{"name":"TEST_SCORE","score":6.500000,"metric_score":1.0,"options":["option one","option two"]},` +
	`"GOOD":{"name":"GOOD","score":-2.0,"metric_score":-2.0},` +
	`"FROM_HAS_DN":{"name":"FROM_HAS_DN","score":0.0,"metric_score":0.0,"options":["0"]}},` +
	`"messages":{"smtp_message":"Hello there"},"message-id":"1@example.org","time_real":0.101588,"milter":{"remove_headers":{"X-Spam":0}}}`

func TestAnswer(t *testing.T) {
	t.Parallel()
	minimal := func(members string) string { return `{"action":"no action","score":0` + members + `}` }
	tests := map[string]struct {
		text  string
		want  answer
		fault string
	}{
		"seen": {seen, answer{
			action: "add header", score: 7.6, required: 15, message: "Hello there",
			symbols: []symbol{{"TEST_SCORE", 6.5, []string{"option one", "option two"}}, {"GOOD", -2, nil}, {"RDNS_NONE", 1, nil}, {"FROM_HAS_DN", 0, []string{"0"}}},
			changes: changes{remove: []removal{{"X-Spam", 0}}},
		}, ""},
		"least":            {minimal(""), answer{action: "no action", symbols: []symbol{}}, ""},
		"empty as lists":   {minimal(`,"symbols":[],"messages":[],"milter":[],"thresholds":[],"dkim-signature":[]`), answer{action: "no action", symbols: []symbol{}}, ""},
		"nulls":            {minimal(`,"symbols":null,"messages":null,"milter":null,"required_score":null,"subject":null,"dkim-signature":null`), answer{action: "no action", symbols: []symbol{}}, ""},
		"thresholds":       {minimal(`,"thresholds":{"reject":15.0,"add header":6.5}`), answer{action: "no action", threshold: 6.5, symbols: []symbol{}}, ""},
		"one option":       {minimal(`,"symbols":{"A":{"score":1,"options":"x"},"B":{"score":1,"options":[1,{"a":[]},"y"]}}`), answer{action: "no action", symbols: []symbol{{"A", 1, []string{"x"}}, {"B", 1, []string{"1", "y"}}}}, ""},
		"no sense":         {minimal(`,"symbols":{"A":{"score":1e300},"":{"score":1}},"required_score":1e300,"thresholds":{"add header":-1e300}`), answer{action: "no action", symbols: []symbol{}}, ""},
		"minus nothing":    {`{"action":"no action","score":-0.0}`, answer{action: "no action", symbols: []symbol{}}, ""},
		"no action":        {`{"score":1}`, answer{}, "no action or no score"},
		"empty action":     {`{"action":"","score":1}`, answer{}, "no action or no score"},
		"no score":         {`{"action":"reject","score":null}`, answer{}, "no action or no score"},
		"score as text":    {`{"action":"reject","score":"1"}`, answer{}, "no JSON of the right form"},
		"not a number":     {`{"action":"reject","score":nan}`, answer{}, "no JSON of the right form"},
		"huge score":       {`{"action":"reject","score":1e7}`, answer{}, "its score is not between"},
		"no number at all": {`{"action":"reject","score":1e999}`, answer{}, "no JSON of the right form"},
		"list":             {`[]`, answer{}, "no JSON of the right form"},
		"empty":            {``, answer{}, "no JSON of the right form"},
		"cut":              {seen[:200], answer{}, "no JSON of the right form"},
		"more behind":      {seen + "{}", answer{}, "no JSON of the right form"},
		"deep":             {minimal(`,"milter":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000)), answer{}, "no JSON of the right form"},
		"deep in milter":   {minimal(`,"milter":{"add_headers":{"X-A":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}}`), answer{}, "not of the right form"},
		"gzip":             {"\x1f\x8b\x08\x00\x00\x00\x00\x00", answer{}, "no JSON of the right form"},
		"symbols as text":  {minimal(`,"symbols":{"A":"x"}`), answer{}, "no JSON of the right form"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseAnswer([]byte(test.text))
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) || len(err.Error()) > 400 {
					t.Errorf("error %v, want %q", err, test.fault)
				}
				return
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(answer{}, symbol{}, changes{}, removal{}, addition{})); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	found, err := parseAnswer([]byte(seen))
	if err != nil {
		t.Fatal(err)
	}
	want := "rspamd says add header (Hello there), score 7.6 of 15: tagged; TEST_SCORE 6.5 [option one, option two]; GOOD -2; RDNS_NONE 1; " +
		"1 without points; in 5ms"
	if got := explain(found, "tagged", 5*time.Millisecond); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	found.message, found.action = strings.Repeat("m\n", 500), strings.Repeat("a", 5000)[:maxName]
	for i := range 300 {
		found.symbols = append([]symbol{{fmt.Sprintf("A_LONG_NAME_OF_A_SYMBOL_%d\u202e", i), 9, []string{"\x1b[31m", strings.Repeat("o", 100), "3", "4"}}}, found.symbols...)
	}
	got := explain(found, "tagged", time.Hour)
	if len(got) > 512 || got != mail.Printable(got, 512) || !strings.Contains(got, "A_LONG_NAME_OF_A_SYMBOL_299? 9 [?[31m, oooo") || !strings.Contains(got, "symbols more") {
		t.Errorf("reason of %d bytes: %q", len(got), got)
	}
}

// FuzzAnswer: whatever rspamd says, the message that comes of it is well formed, and
// what people are told is short and printable.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(seen))
	f.Add([]byte(`{"action":"rewrite subject","score":1,"subject":"=?UTF-8?Q?=0D=0A?= ü\r\nX-Forged: 1"}`))
	f.Add([]byte(`{"action":"soft reject","score":-1.5,"messages":{"smtp_message":"a\r\n250 OK"}}`))
	f.Add([]byte(`{"action":"reject","score":20,"milter":{"reject":"quarantine","add_headers":{"X-A":["a",{"value":"b\n c","order":3}]},"remove_headers":{"From":[1,-1]}},"dkim-signature":"v=1; b=\n\tAA"}`))
	f.Add([]byte(`{"action":"greylist","score":5,"symbols":{"A,B":{"score":1,"options":["\u0000",7]}},"thresholds":{"add header":6}}`))
	f.Add([]byte(`{"action":"discard","score":5,"symbols":[],"milter":[]}`))
	r := newHandler(f, rspamd.TCP, nil)
	f.Fuzz(func(t *testing.T, text []byte) {
		valid := json.Valid(text) && bytes.HasPrefix(bytes.TrimSpace(text), []byte("{"))
		text, err := extract(bytes.NewReader(text))
		if valid && (err != nil || !json.Valid(text)) {
			t.Fatalf("%q, %v", text, err)
		}
		var found answer
		if err == nil {
			found, err = parseAnswer(text)
		}
		if err != nil {
			if len(err.Error()) > 512 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			return
		}
		tx := newTransaction(t, letter("X-A: 1\r\n"))
		before, err := tx.Rendered()
		if err != nil {
			t.Fatal(err)
		}
		v := r.judge(tx, found, before.Head(), time.Millisecond)
		if len(v.Reason) > 512 || v.Reason != mail.Printable(v.Reason, 512) || v.Reply.Text != mail.Printable(v.Reply.Text, 512) {
			t.Errorf("verdict %+v", v)
		}
		after, err := tx.Rendered()
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range fieldsOf(t, tx).Fields {
			if field.Name == "" || strings.EqualFold(field.Name, "x-forged") || !utf8.Valid(field.Raw) {
				t.Errorf("field %q", field.Raw)
			}
		}
		for line := range strings.Lines(string(after.Head())) {
			if len(line) > 1000 || !strings.HasSuffix(line, "\r\n") {
				t.Errorf("line %q", line)
			}
		}
	})
}
