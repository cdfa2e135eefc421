package control_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
)

// document is what is looked at of the description of the API.
type document struct {
	OpenAPI string `json:"openapi"`
	Paths   map[string]map[string]struct {
		OperationID string `json:"operationId"`
		Summary     string `json:"summary"`
		Tags        []string
		Parameters  []struct{ Name, In, Description string }
		Responses   map[string]struct {
			Content map[string]struct {
				Schema struct {
					Ref string `json:"$ref"`
				} `json:"schema"`
			} `json:"content"`
		} `json:"responses"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]json.RawMessage `json:"schemas"`
	} `json:"components"`
}

// TestOpenAPIIsCurrent fails when the API has changed and its description has not.
func TestOpenAPIIsCurrent(t *testing.T) {
	t.Parallel()
	text, err := control.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile("../../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pretty.String()+"\n", string(kept)); diff != "" {
		t.Errorf("docs/openapi.json is behind: run 'go generate ./core/control' (-source +file):\n%s", diff)
	}
}

// TestOpenAPI: each operation has a name of its own, describes its parameters and
// its errors, and every reference leads somewhere.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	text, err := control.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1") || len(d.Paths) < 25 {
		t.Fatalf("OpenAPI %q with %d paths", d.OpenAPI, len(d.Paths))
	}
	seen := make(map[string]string)
	for path, operations := range d.Paths {
		for method, o := range operations {
			at := method + " " + path
			if o.OperationID == "" || o.Summary == "" || len(o.Tags) != 1 {
				t.Errorf("%s: operation %q, summary %q, tags %v", at, o.OperationID, o.Summary, o.Tags)
			}
			if other := seen[o.OperationID]; other != "" {
				t.Errorf("%s and %s are both %s", at, other, o.OperationID)
			}
			seen[o.OperationID] = at
			if o.Responses["default"].Content["application/problem+json"].Schema.Ref != "#/components/schemas/Problem" {
				t.Errorf("%s does not describe its errors: %v", at, o.Responses["default"])
			}
			if strings.Contains(path, "{") && len(o.Parameters) == 0 {
				t.Errorf("%s does not describe its parameters", at)
			}
		}
	}
	for _, found := range regexp.MustCompile(`"#/components/schemas/([^"]+)"`).FindAllSubmatch(text, -1) {
		if d.Components.Schemas[string(found[1])] == nil {
			t.Errorf("nothing describes %s", found[1])
		}
	}
}

// TestOpenAPIServed: a client can ask for it, in both forms.
func TestOpenAPIServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	connect(t, dir, control.NewLocal(host(t), "/data", nil))
	c := raw(dir)
	t.Cleanup(c.CloseIdleConnections)
	text, err := control.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if status, body := send(t, c, "GET", "/v1/openapi.json", "", ""); status != 200 || body != string(text) {
		t.Errorf("JSON: %d with %d bytes", status, len(body))
	}
	if status, body := send(t, c, "GET", "/v1/openapi.yaml", "", ""); status != 200 || !strings.Contains(body, "\nopenapi: 3.1.0\n") && !strings.HasPrefix(body, "openapi: 3.1.0\n") {
		t.Errorf("YAML: %d %.100s", status, body)
	}
}

// TestDocumentedCalls: every call that docs/api.md shows is one that the API has.
func TestDocumentedCalls(t *testing.T) {
	t.Parallel()
	text, err := control.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	calls := regexp.MustCompile(`(?m)^\$ curl (.*?)https?://[^/]+(/v1/[^\s?'|]*)`).FindAllStringSubmatch(string(page), -1)
	if len(calls) < 20 {
		t.Fatalf("docs/api.md has %d calls", len(calls))
	}
	mux := http.NewServeMux()
	for path, operations := range d.Paths {
		for method := range operations {
			mux.Handle(strings.ToUpper(method)+" "+path, http.NotFoundHandler())
		}
	}
	for _, call := range calls {
		method := http.MethodGet
		if m := regexp.MustCompile(`-X (\w+)`).FindStringSubmatch(call[1]); m != nil {
			method = m[1]
		}
		if _, pattern := mux.Handler(httptest.NewRequest(method, call[2], nil)); pattern == "" {
			t.Errorf("docs/api.md: the API has no %s %s", method, call[2])
		}
	}
}
