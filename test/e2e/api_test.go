package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/tuning"
	"github.com/mox-like/mox-like/test/daemon"
)

// administered is a listener for the API on a Unix socket in the data directory.
const administered = "\nlistener \"admin\" \"api\" {}\n"

// ask has curl make a request, and gives the status and the body of the answer.
func ask(t *testing.T, args ...string) (status, body string) {
	t.Helper()
	r := run(t, command(t, daemon.Program(t, "curl"), append([]string{"--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}"}, args...)...))
	if r.code != 0 {
		t.Fatalf("curl %q: exit status %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	end := strings.LastIndexByte(r.stdout, '\n')
	return r.stdout[end+1:], r.stdout[:end]
}

// api asks the listener on the Unix socket.
func (s *site) api(t *testing.T, path string, args ...string) (status, body string) {
	t.Helper()
	return ask(t, append([]string{"--unix-socket", filepath.Join(s.data, "admin.sock"), "http://admin" + path}, args...)...)
}

// get asks for what must be there.
func get[T any](t *testing.T, s *site, path string) T {
	t.Helper()
	status, body := s.api(t, path)
	var found T
	if err := json.Unmarshal([]byte(body), &found); err != nil || status != "200" {
		t.Fatalf("GET %s: status %s, %v\n%s", path, status, err, body)
	}
	return found
}

// patch changes settings of example.test by the API.
func (s *site) patch(t *testing.T, body string) (status, answer string) {
	t.Helper()
	return s.api(t, "/v1/domains/example.test/settings", "--request", "PATCH", "--header", "Content-Type: application/json", "--data", body)
}

// TestAdminAPI tunes a domain by curl on a Unix socket.
func TestAdminAPI(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: tunable, More: administered})
	p := s.serve(t, alice, dave)
	if status, body := s.patch(t, `{"greylist":{"enabled":true,"delay":"10m"}}`); status != "200" {
		t.Fatalf("PATCH: status %s\n%s", status, body)
	}
	p.answered(t, "PATCH", alice, "451 4.7.1 Greylisted, try again in 600 seconds")
	p.answered(t, "PATCH", dave, "250 ")

	status, body := s.patch(t, `{"greylist":{"enabled":false,"delay":"soon"}}`)
	var problem control.Problem
	if err := json.Unmarshal([]byte(body), &problem); err != nil || status != "422" || problem.Type != "/problems/refused" || problem.Report == nil ||
		!strings.Contains(body, "is not a duration") {
		t.Errorf("PATCH of a bad value: status %s\n%s", status, body)
	}
	for request, want := range map[string]string{
		`{"greylist":{"delais":"5m"}}`: "422", `{"nobody":{"delay":"5m"}}`: "422", `{}`: "422", `{"greylist":`: "400", `[]`: "422",
	} {
		if status, body := s.patch(t, request); status != want {
			t.Errorf("PATCH of %s: status %s, want %s\n%s", request, status, want, body)
		}
	}
	p.answered(t, "refused requests", alice, "451 4.7.1 Greylisted")

	type settingsAnswer struct {
		Settings []tuning.Setting `json:"settings"`
	}
	type effectiveAnswer struct {
		Settings []tuning.Effective `json:"settings"`
	}
	type historyAnswer struct {
		Revisions []tuning.Revision `json:"revisions"`
	}
	if stored := get[settingsAnswer](t, s, "/v1/domains/example.test/settings/stored").Settings; len(stored) != 2 {
		t.Errorf("stored settings are %+v", stored)
	}
	effective := get[effectiveAnswer](t, s, "/v1/domains/example.test/settings?handler=greylist").Settings
	if i := slices.IndexFunc(effective, func(e tuning.Effective) bool { return e.Attribute == "delay" }); i < 0 || effective[i].Value != `"10m"` {
		t.Errorf("what holds for example.test is %+v", effective)
	}
	s.patch(t, `{"greylist":{"enabled":null}}`)
	p.answered(t, "PATCH with null", alice, "250 ")
	if list := get[historyAnswer](t, s, "/v1/domains/example.test/settings/history").Revisions; len(list) != 3 || list[0].After != nil {
		t.Errorf("the history is %+v", list)
	}
	if status, body := s.api(t, "/v1/domains/example.test/settings/rollback", "--header", "Content-Type: application/json", "--data", `{"to":0}`); status != "200" {
		t.Errorf("rollback: status %s\n%s", status, body)
	}
	if stored := get[settingsAnswer](t, s, "/v1/domains/example.test/settings/stored").Settings; len(stored) != 0 {
		t.Errorf("after the rollback stored settings are %+v", stored)
	}
	find(t, s.do(t, "audit", "--operation", "change-domain-settings"), ` example\.test `)
}

// TestAdminAPIOfAccounts makes an account with all that belongs to it, and blocks
// and frees clients, by the API alone.
func TestAdminAPIOfAccounts(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Login: "bruteforce {}", Factor: "totp {}", Chain: "blocklist {}\ngreylist {\n delay = \"1h\"\n }", More: administered})
	p := s.serve(t)
	do := func(want, method, path, body string) (answer map[string]any) {
		t.Helper()
		args := []string{"--request", method}
		if body != "" {
			args = append(args, "--header", "Content-Type: application/json", "--data", body)
		}
		status, text := s.api(t, path, args...)
		if status != want {
			t.Fatalf("%s %s: status %s, want %s\n%s", method, path, status, want, text)
		}
		if text != "" {
			if err := json.Unmarshal([]byte(text), &answer); err != nil {
				t.Fatalf("%s %s: %v\n%s", method, path, err, text)
			}
		}
		return answer
	}
	const account = "/v1/users/" + alice
	do("204", "POST", "/v1/users", `{"address":"`+alice+`","password":"`+password+`"}`)
	do("409", "POST", "/v1/users", `{"address":"`+alice+`","password":"`+password+`"}`)
	do("422", "POST", "/v1/users", `{"address":"`+bob+`","password":"short"}`)
	p.answers(t, "IMAP", home, alice, password, letIn)

	enrolled := do("201", "POST", account+"/totp", "")
	device := &authenticator{secret: enrolled["secret"].(string), began: time.Now()}
	do("422", "POST", account+"/totp/confirm", `{"code":"`+device.at(t, device.began.Add(-24*time.Hour))+`"}`)
	do("204", "POST", account+"/totp/confirm", `{"code":"`+device.code(t)+`"}`)
	p.refuses(t, "the password alone", password)
	code := device.code(t)
	for n, want := range []bool{true, false} {
		if got := do("200", "POST", account+"/totp/verify", `{"code":"`+code+`"}`)["ok"]; got != want {
			t.Errorf("verification %d of one code says %v", n, got)
		}
	}
	app := do("201", "POST", account+"/app-passwords", `{"name":"phone","scopes":["imap"]}`)["password"].(string)
	p.answers(t, "IMAP", home, alice, app, letIn)
	p.answers(t, "SMTP", home, alice, app, denied)
	listed, err := json.Marshal(do("200", "GET", account+"/app-passwords", ""))
	if err != nil || strings.Contains(string(listed), app) {
		t.Errorf("the list of app passwords shows one (%v): %s", err, listed)
	}
	do("204", "DELETE", account+"/totp", "")
	p.answers(t, "SMTP", home, alice, password, letIn)

	do("204", "POST", "/v1/blocks", `{"network":"127.0.40.0/24","reason":"scans"}`)
	p.meets(t, "127.0.40.1", false)
	if why := do("200", "GET", "/v1/blocks/why?address=127.0.40.1", "")["blocks"].([]any); len(why) != 1 {
		t.Errorf("why gives %v", why)
	}
	do("200", "DELETE", "/v1/blocks/127.0.40.0%2F24", "")
	do("404", "DELETE", "/v1/blocks/127.0.40.0%2F24", "")
	p.meets(t, "127.0.40.1", true)

	p.answered(t, "nothing", alice, "451 ")
	list := do("200", "GET", "/v1/greylist?state=greylisted", "")["triplets"].([]any)
	if len(list) != 1 {
		t.Fatalf("the greylist has %v", list)
	}
	do("204", "POST", fmt.Sprintf("/v1/greylist/%v/release", list[0].(map[string]any)["id"]), "")
	p.answered(t, "release", alice, "250 ")

	do("204", "DELETE", account, "")
	p.answers(t, "IMAP", home, alice, password, denied)
	trail, err := json.Marshal(do("200", "GET", "/v1/audit", ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{password, app, device.secret} {
		if strings.Contains(string(trail), secret) || strings.Contains(p.log(t), secret) {
			t.Error("the audit trail or the log has a secret in it")
		}
	}
	for _, operation := range []string{"add-user", "enrol-totp", "confirm-totp", "add-app-password", "remove-totp", "add-block", "remove-block", "release-triplet", "remove-user"} {
		if !strings.Contains(string(trail), `"operation":"`+operation+`"`) {
			t.Errorf("the audit trail has no %s", operation)
		}
	}
}

// TestAdminAPIDocument compares what the server says of its API with docs, and
// asks for everything that takes no argument.
func TestAdminAPIDocument(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{More: administered})
	s.serve(t, alice)
	written, err := os.ReadFile("../../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var there map[string]any
	if err := json.Unmarshal(written, &there); err != nil {
		t.Fatal(err)
	}
	served := get[map[string]any](t, s, "/v1/openapi.json")
	if diff := cmp.Diff(there, served); diff != "" {
		t.Errorf("the document in docs and that of the server (-docs +server):\n%s", diff)
	}
	asked := 0
	for path, operations := range served["paths"].(map[string]any) {
		if _, ok := operations.(map[string]any)["get"]; !ok || strings.Contains(path, "{") || strings.HasSuffix(path, "/follow") {
			continue
		}
		query := ""
		if path == "/v1/blocks/why" {
			query = "?address=192.0.2.1"
		}
		get[map[string]any](t, s, path+query)
		asked++
	}
	if asked < 8 {
		t.Errorf("the API gives only %d things", asked)
	}
	if status, body := s.api(t, "/v1/nothing"); status != "404" || !strings.Contains(body, `"type":"/problems/no-such-path"`) {
		t.Errorf("what is not there: status %s\n%s", status, body)
	}
}

// TestAdminAPIOverTLS shows tokens to a listener on TCP, whose certificate is
// checked.
func TestAdminAPIOverTLS(t *testing.T) {
	t.Parallel()
	const reads, writes = "reader-0123456789abcdef0123456789abcdef", "writer-0123456789abcdef0123456789abcdef"
	s := newSite(t, settings{Chain: tunable, More: `
listener "admin" "remote" {
  address = "127.0.0.1:0"
  token "prometheus" {
    secret = "` + reads + `"
  }
  token "provisioning" {
    secret = "` + writes + `"
    scope  = "write"
  }
}
`})
	p := s.serve(t, alice)
	url := "https://" + p.address(t, "remote")
	with := func(token, path string, args ...string) (status, body string) {
		t.Helper()
		args = append([]string{"--cacert", filepath.Join(s.data, "tls", "test.crt"), url + path}, args...)
		if token != "" {
			args = append(args, "--header", "Authorization: Bearer "+token)
		}
		return ask(t, args...)
	}
	change := []string{"--request", "PATCH", "--header", "Content-Type: application/json", "--data", `{"greylist":{"enabled":true}}`}
	for _, test := range []struct {
		name, token, path string
		args              []string
		status            string
	}{
		{"no token", "", "/v1/users", nil, "401"},
		{"no token, metrics", "", "/metrics", nil, "401"},
		{"a wrong token", strings.Repeat("x", 40), "/v1/users", nil, "401"},
		{"alive", "", "/healthz", nil, "200"},
		{"read", reads, "/v1/users", nil, "200"},
		{"read metrics", reads, "/metrics", nil, "200"},
		{"change with a token that reads", reads, "/v1/domains/example.test/settings", change, "403"},
		{"change", writes, "/v1/domains/example.test/settings", change, "200"},
	} {
		if status, body := with(test.token, test.path, test.args...); status != test.status {
			t.Errorf("%s: status %s, want %s\n%s", test.name, status, test.status, body)
		}
	}
	p.answered(t, "PATCH over TLS", alice, "451 4.7.1 Greylisted")
	find(t, s.do(t, "audit"), ` change-domain-settings +example\.test +token "provisioning" from 127\.0\.0\.1`)
	if r := run(t, command(t, daemon.Program(t, "curl"), "--silent", "http://"+p.address(t, "remote")+"/v1/users")); strings.Contains(r.stdout, alice) {
		t.Errorf("without TLS the server answers %s", r.stdout)
	}
	for _, secret := range []string{reads, writes} {
		if strings.Contains(p.log(t), secret) {
			t.Error("the log has a token in it")
		}
	}
}

// series is one line of /metrics.
type series struct {
	name   string
	labels []string // each as it is written, such as handler="clamav"
	value  string
}

// figures reads /metrics.
func (s *site) figures(t *testing.T) []series {
	t.Helper()
	status, body := s.api(t, "/metrics")
	if status != "200" {
		t.Fatalf("GET /metrics: status %s\n%s", status, body)
	}
	line := regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? (\S+)$`)
	label := regexp.MustCompile(`\w+="(?:[^"\\]|\\.)*"`)
	var list []series
	for _, found := range line.FindAllStringSubmatch(body, -1) {
		list = append(list, series{found[1], label.FindAllString(found[2], -1), found[3]})
	}
	return list
}

// figure gives the value of the one series of a name with these labels, and maybe
// others.
func figure(t *testing.T, list []series, name string, labels ...string) string {
	t.Helper()
	var values []string
	for _, s := range list {
		lacks := func(label string) bool { return !slices.Contains(s.labels, label) }
		if s.name == name && !slices.ContainsFunc(labels, lacks) {
			values = append(values, s.value)
		}
	}
	if len(values) != 1 {
		t.Errorf("there are %d series of %s with %s, want one", len(values), name, labels)
		return ""
	}
	return values[0]
}

// TestDashboardShowsWhatThereIs looks for each metric of the Grafana dashboard in
// those of a server that has had traffic, with its labels.
func TestDashboardShowsWhatThereIs(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Login: "bruteforce {}", Chain: "greylist {\n delay = \"1h\"\n }", More: administered})
	p := s.serve(t, alice)
	p.answers(t, "IMAP", home, alice, password, letIn)
	p.answers(t, "SMTP", home, alice, "wrong", denied)
	p.answered(t, "nothing", alice, "451 ")
	s.do(t, "greylist", "allow", "127.0.0.0/8")
	if id, reply := p.try(t, "mx", "Subject: Hello\r\n\r\n.\r\n"); id == "" {
		t.Fatal(reply)
	}
	dashboard, err := os.ReadFile("../../docs/grafana/mox-like.json")
	if err != nil {
		t.Fatal(err)
	}
	found := s.figures(t)
	names := make(map[string]bool)
	labels := make(map[string]bool)
	for _, one := range found {
		names[one.name] = true
		for _, label := range one.labels {
			key, _, _ := strings.Cut(label, "=")
			labels[one.name+" "+key] = true
		}
	}
	expression := regexp.MustCompile(`"expr":\s*"((?:[^"\\]|\\.)*)"`)
	metric := regexp.MustCompile(`\b(?:mox_like|process|go)_\w+`)
	asked := 0
	for _, e := range expression.FindAllStringSubmatch(string(dashboard), -1) {
		of := metric.FindAllString(e[1], -1)
		for _, name := range of {
			asked++
			if !names[name] {
				t.Errorf("the dashboard shows %s, which the server does not have", name)
			}
		}
		by := regexp.MustCompile(`by \(([^)]*)\)`).FindStringSubmatch(e[1])
		if by == nil {
			continue
		}
		for label := range strings.SplitSeq(by[1], ", ") {
			if !labels[of[0]+" "+label] {
				t.Errorf("the dashboard shows %s by %s, which it does not have", of[0], label)
			}
		}
	}
	if asked < 15 {
		t.Errorf("the dashboard shows %d metrics", asked)
	}
	for _, want := range [][]string{
		{"mox_like_verdicts_total", `handler="greylist"`, `listener="mx"`, `stage="rcpt"`, `verdict="defer"`},
		{"mox_like_records_total", `kind="login"`, `listener="imaps"`, `outcome="accept"`},
		{"mox_like_records_total", `kind="login"`, `listener="submission"`, `outcome="reject"`},
		{"mox_like_records_total", `kind="message"`, `listener="mx"`, `outcome="accept"`},
	} {
		if got := figure(t, found, want[0], want[1:]...); got != "1" {
			t.Errorf("%s is %s, want 1", want, got)
		}
	}
}
