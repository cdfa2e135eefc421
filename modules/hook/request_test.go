package hook

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// schemaOf reads one of the schemas.
func schemaOf(t *testing.T, name string) map[string]any {
	t.Helper()
	text, err := Schema.ReadFile("schema/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return schema
}

// fits holds a value against the words of JSON Schema that ours have. Members of
// objects that the schema does not know are faults.
func fits(schema map[string]any, value any, path string) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, path+": "+fmt.Sprintf(format, args...))
	}
	if c, ok := schema["const"]; ok && c != value {
		fault("%v is not %v", value, c)
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, value) {
		fault("%v is none of %v", value, enum)
	}
	number := func(word string, bad func(bound float64) bool) {
		if bound, ok := schema[word].(float64); ok && bad(bound) {
			fault("%v is beyond %s %v", value, word, bound)
		}
	}
	kind := schema["type"]
	switch v := value.(type) {
	case string:
		if kind != nil && kind != "string" {
			fault("a string, not %s", kind)
		}
		number("maxLength", func(n float64) bool { return float64(len(v)) > n })
		if p, ok := schema["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			fault("%q does not match %s", v, p)
		}
	case float64:
		if kind != nil && kind != "number" && kind != "integer" || kind == "integer" && v != float64(int64(v)) {
			fault("a number, not %s", kind)
		}
		number("minimum", func(n float64) bool { return v < n })
		number("maximum", func(n float64) bool { return v > n })
	case bool:
		if kind != "boolean" {
			fault("a bool, not %s", kind)
		}
	case []any:
		if kind != "array" {
			fault("a list, not %s", kind)
			return faults
		}
		number("maxItems", func(n float64) bool { return float64(len(v)) > n })
		items, _ := schema["items"].(map[string]any)
		for i, item := range v {
			faults = append(faults, fits(items, item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	case map[string]any:
		if kind != "object" {
			fault("an object, not %s", kind)
			return faults
		}
		number("maxProperties", func(n float64) bool { return float64(len(v)) > n })
		faults = append(faults, fitsObject(schema, v, path)...)
	default:
		fault("%v is of no type", value)
	}
	return faults
}

func fitsObject(schema, value map[string]any, path string) (faults []string) {
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := value[name.(string)]; !ok {
			faults = append(faults, fmt.Sprintf("%s: %s is missing", path, name))
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	names, _ := schema["propertyNames"].(map[string]any)
	others, _ := schema["additionalProperties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(value)) {
		inner := path + "." + name
		if names != nil {
			faults = append(faults, fits(names, name, inner)...)
		}
		property, ok := properties[name].(map[string]any)
		switch {
		case ok:
			faults = append(faults, fits(property, value[name], inner)...)
		case others != nil:
			faults = append(faults, fits(others, value[name], inner)...)
		default:
			faults = append(faults, inner+": the schema does not have it")
		}
	}
	return faults
}

func newTestJudge(settings Settings) *judge { return &judge{name: "judge", settings: settings} }

// requestOf gives what a hook is sent, held against the schema.
func requestOf(t *testing.T, s Settings, tx *mail.Transaction) map[string]any {
	t.Helper()
	text, err := newTestJudge(s).request(tx)
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for _, fault := range fits(schemaOf(t, "request.json"), r, "request") {
		t.Error(fault)
	}
	return r
}

func TestRequests(t *testing.T) {
	t.Parallel()
	all := Settings{Include: []string{"header", "body"}, MaxBody: 1 << 20}
	for stage := range mail.Stage(mail.NumStages) {
		if stage == mail.StageAuth {
			continue
		}
		r := requestOf(t, all, coretest.Transaction(t, stage, 1))
		for member, from := range map[string]bool{
			"envelope": stage >= mail.StageMail, "recipient": stage == mail.StageRcpt, "message": stage == mail.StageData,
		} {
			if _, ok := r[member]; ok != from {
				t.Errorf("at %s: %s is there: %v", stage, member, ok)
			}
		}
	}
}

func TestRequestInFull(t *testing.T) {
	t.Parallel()
	tx := coretest.Transaction(t, mail.StageData, 3)
	tx.Session.TLS, tx.Session.User = &tls.ConnectionState{Version: tls.VersionTLS13}, "alice@example.test"
	tx.Session.Helo = "bad\xffhelo\x00<>"
	tx.Envelope.ReversePath, tx.Envelope.Size = mail.Address{}, 1000
	tx.SetAuthResult(mail.AuthResult{Method: "spf", Result: "fail", Reason: "says so", Properties: []mail.Property{{Type: "smtp", Name: "mailfrom", Value: "a@example.org"}}})
	tx.SetScore("spf", 2.5)
	tx.AddTag("spf=fail")
	tx.Trial = true
	var err error
	if tx.Message, err = mail.NewMessage([]byte("Subject: a\r\n folded\r\nno field\r\n\r\n\x00\xff binary")); err != nil {
		t.Fatal(err)
	}
	got := requestOf(t, Settings{Include: []string{"header", "body"}, MaxBody: 3}, tx)
	want := map[string]any{
		"version": 1.0, "id": "message3", "stage": "data", "handler": "judge",
		"session": map[string]any{
			"id": "session3", "protocol": "smtp", "listener": "one", "ip": "192.0.2.3", "helo": "bad\ufffdhelo\x00<>",
			"tls": "TLS 1.3", "user": "alice@example.test",
		},
		"envelope": map[string]any{"reverse_path": "", "recipients": []any{"user@example.test"}, "size": 1000.0, "smtputf8": false},
		"message": map[string]any{
			"size": float64(tx.Message.Size), "truncated": true,
			"body": base64.StdEncoding.EncodeToString([]byte("\x00\xff ")),
			"header": []any{
				map[string]any{"name": "Subject", "value": "a folded"},
				map[string]any{"name": "", "value": ""},
			},
		},
		"auth_results": []any{map[string]any{
			"method": "spf", "result": "fail", "reason": "says so",
			"properties": []any{map[string]any{"type": "smtp", "name": "mailfrom", "value": "a@example.org"}},
		}},
		"score": 2.5, "tags": []any{"spf=fail"}, "trial": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// TestOnlyWhatIsIncluded finds that a hook is not sent what it is not to see.
func TestOnlyWhatIsIncluded(t *testing.T) {
	t.Parallel()
	for _, include := range [][]string{nil, {"header"}, {"body"}} {
		text, err := newTestJudge(Settings{Include: include, MaxBody: 1 << 20}).request(coretest.Transaction(t, mail.StageData, 1))
		if err != nil {
			t.Fatal(err)
		}
		for part, sign := range map[string]string{"header": "Number 1", "body": base64.StdEncoding.EncodeToString([]byte("Hello.\r\n"))} {
			if strings.Contains(string(text), sign) != slices.Contains(include, part) {
				t.Errorf("include %v: %s", include, text)
			}
		}
	}
}

// TestAnswerSchema finds that the schema and parseAnswer agree.
func TestAnswerSchema(t *testing.T) {
	t.Parallel()
	schema := schemaOf(t, "answer.json")
	for text, good := range map[string]bool{
		`{"action":"continue"}`: true,
		`{"version":1,"action":"reject","code":550,"enhanced":"5.7.1","text":"No","reason":"spam","score":-1.5,"tags":["a=b"],"add_header":{"X-A":"b"}}`: true,
		`{}`:                                                  false,
		`{"action":"bounce"}`:                                 false,
		`{"action":"continue","other":1}`:                     false,
		`{"action":"reject","code":600}`:                      false,
		`{"action":"reject","code":"550"}`:                    false,
		`{"action":"reject","enhanced":"5"}`:                  false,
		`{"action":"reject","text":"a\nb"}`:                   false,
		`{"action":"continue","score":2000}`:                  false,
		`{"action":"continue","tags":["a b"]}`:                false,
		`{"action":"continue","add_header":{"Received":"x"}}`: false,
		`{"action":"continue","add_header":{"X-A":"b\n"}}`:    false,
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		_, err := parseAnswer([]byte(text), mail.StageData)
		faults := fits(schema, v, "answer")
		if (err == nil) != good || (faults == nil) != good {
			t.Errorf("%s: error %v, the schema says %v", text, err, faults)
		}
	}
}
