package control_test

import (
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/check"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

// gate is a listener that tells what it thinks of mail.
type gate struct{ door }

func (*gate) Module() core.Info {
	return core.Info{ID: "listener.gate", Stages: mail.AtMail | mail.AtRcpt | mail.AtData, New: func() core.Module { return new(gate) }}
}

func (*gate) Encrypts(bool) bool { return false }

func (*gate) Receive(content io.Reader) (core.Reception, error) {
	text, err := io.ReadAll(content)
	return &received{text}, err
}

// received refuses what is empty, and the second recipient.
type received struct{ text []byte }

func (r *received) Size() int64 { return int64(len(r.text)) }

func (r *received) Mail(*mail.Transaction) mail.Verdict {
	if len(r.text) == 0 {
		return mail.Reject(mail.NewReply(552, 3, 4, "Message is empty"), "nothing came")
	}
	return mail.Verdict{}
}

func (*received) Rcpt(tx *mail.Transaction) mail.Verdict {
	if len(tx.Envelope.Recipients) > 0 {
		return mail.Defer(mail.NewReply(452, 5, 3, "One is enough"), "one is enough")
	}
	return mail.Verdict{}
}

func (r *received) Data(tx *mail.Transaction) (v mail.Verdict) {
	var err error
	if tx.Message, err = mail.NewMessage(r.text); err != nil {
		return mail.Reject(mail.NewReply(554, 6, 0, "It is no message"), err.Error())
	}
	tx.AddFieldBelow("Received", "from test")
	return mail.Verdict{}
}

func (*received) Close() error { return nil }

// witness is a target that takes mail on trial only.
type witness struct{}

func (*witness) Module() core.Info {
	return core.Info{ID: "handler.witness", Stages: mail.AtRcpt | mail.AtData, Target: true, New: func() core.Module { return new(witness) }}
}

func (*witness) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	if !tx.Trial {
		return mail.Verdict{}, errors.New("this is no trial")
	}
	if tx.Recipient != nil {
		tx.Recipient.Accounts = []string{"alice@example.test"}
	}
	for _, r := range tx.Envelope.Recipients {
		r.Delivered = true
	}
	tx.RemoveHeaderFields("X-Old")
	return mail.Accept("for the test"), nil
}

const gated = `server { hostname = "mx.example.test" }
domain "example.test" {}
listener "gate" "mx" {
  address = ["unix:mx.sock"]
  chain {
    witness {}
  }
}
listener "door" "back" {
  address = ["unix:back.sock"]
  chain {
    witness {}
  }
}
`

func gatedHost(t *testing.T, source string) *core.Offline {
	t.Helper()
	registry := new(core.Registry)
	for _, m := range []core.Module{new(accounts), new(control.Service), new(witness), new(door), new(gate)} {
		registry.Register(m)
	}
	o, ds, _, err := core.OpenOffline(t.Context(), core.Options{
		ConfigFile: "mox-like.hcl", Source: []byte(source), DataDir: filepath.Join(t.TempDir(), "data"), Registry: registry,
	})
	if err != nil {
		t.Fatalf("open: %v\n%v", err, ds.Err())
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return o
}

// TestCheck: a message is tried alike on both ways.
func TestCheck(t *testing.T) {
	t.Parallel()
	for name, ops := range map[string]control.Operations{
		"local": control.NewLocal(gatedHost(t, gated), "/data", nil),
		"http":  connect(t, t.TempDir(), control.NewLocal(gatedHost(t, gated), "/data", nil)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testCheck(t, ops)
		})
	}
	broken := gatedHost(t, strings.Replace(gated, "witness {}", "nobody {}", 1))
	for name, ops := range map[string]control.Operations{
		"local": control.NewLocal(broken, "/data", nil), "http": connect(t, t.TempDir(), control.NewLocal(broken, "/data", nil)),
	} {
		_, report, err := ops.Check(t.Context(), checked, strings.NewReader("a"))
		if !errors.Is(err, control.ErrRefused) || report == nil || !report.Diagnostics.HasErrors() {
			t.Errorf("%s, file with errors: %v, %+v", name, err, report)
		}
	}
}

var checked = check.Request{
	Listener: "mx", IP: netip.MustParseAddr("192.0.2.1"), From: "<>", To: []string{"alice@example.test", "bob@example.test"},
	TLS: true, Now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), Zone: "a.example. IN A 192.0.2.1\n",
}

func testCheck(t *testing.T, ops control.Operations) { //nolint:thelper // its own lines count
	result, report, err := ops.Check(t.Context(), checked, strings.NewReader("Subject: a\r\nX-Old: b\r\n\r\n"))
	if err != nil {
		t.Fatalf("check: %v, %v", err, report)
	}
	id := result.Record.ID
	want := &check.Result{
		Replies: []check.Reply{
			{Stage: "connect", Reply: "220 mx.example.test ESMTP Service Ready"},
			{Stage: "helo", Reply: "250 mx.example.test greets [192.0.2.1]"},
			{Stage: "mail", Reply: "250 2.1.0 Sender OK"},
			{Stage: "rcpt", Recipient: "alice@example.test", Reply: "250 2.1.5 Recipient OK"},
			{Stage: "rcpt", Recipient: "bob@example.test", Reply: "452 4.5.3 One is enough (id " + id + ")"},
			{Stage: "data", Reply: "250 2.0.0 OK: kept as " + id},
		},
		Recipients: []check.Recipient{
			{Address: "alice@example.test", Accepted: true, Target: "witness", Accounts: []string{"alice@example.test"}},
			{Address: "bob@example.test", Later: true},
		},
		Added: []string{"Received: from test"}, Removed: []string{"X-Old: b"},
		Accepted: true,
		Further: []*check.Result{{
			Accepted: true,
			Replies: []check.Reply{
				{Stage: "mail", Reply: "250 2.1.0 Sender OK"},
				{Stage: "rcpt", Recipient: "bob@example.test", Reply: "250 2.1.5 Recipient OK"},
				{Stage: "data", Reply: "250 2.0.0 OK: kept as " + id + "-2"},
			},
			Recipients: []check.Recipient{{Address: "bob@example.test", Accepted: true, Target: "witness", Accounts: []string{"alice@example.test"}}},
			Added:      []string{"Received: from test"}, Removed: []string{"X-Old: b"},
		}},
	}
	if diff := cmp.Diff(want, result, cmpopts.IgnoreFields(check.Result{}, "Record")); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if r := result.Record; !strings.HasPrefix(id, "check-") || len(r.Entries) != 2 || len(r.Settings) != 1 || !r.Time.Equal(checked.Now) {
		t.Errorf("record %+v", r)
	}
	empty, _, err := ops.Check(t.Context(), checked, strings.NewReader(""))
	if err != nil || empty.Accepted || len(empty.Replies) != 3 || empty.Replies[2].Reply != "552 5.3.4 Message is empty (id "+empty.Record.ID+")" {
		t.Errorf("empty message: %+v, %v", empty, err)
	}
	for listener, says := range map[string]string{"nx": `there is no listener "nx"`, "back": "whose kind is door; it does by: mx"} {
		r := checked
		r.Listener = listener
		if _, _, err := ops.Check(t.Context(), r, strings.NewReader("a")); !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", listener, err)
		}
	}
	if _, _, err := ops.Check(t.Context(), checked, io.MultiReader(strings.NewReader("Subject:"), failing{})); !errors.Is(err, errDisk) {
		t.Errorf("file that cannot be read: %v", err)
	}
}

var errDisk = errors.New("the disk is gone")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errDisk }

// TestCheckForms sends what is no check.
func TestCheckForms(t *testing.T) {
	t.Parallel()
	ops := control.NewLocal(gatedHost(t, gated), "/data", nil)
	readOnly := false
	h := control.NewHandler(control.HandlerOptions{
		Operations: func() control.Operations { return ops }, Actor: func(*http.Request) control.Actor { return control.Actor{Name: "test"} },
		ReadOnly: func(*http.Request) bool { return readOnly }, Logger: zap.NewNop(),
	})
	server := httptest.NewServer(h)
	defer server.Close()
	const good = `{"listener":"mx","ip":"192.0.2.1","from":"","to":["alice@example.test"]}`
	for name, c := range map[string]struct {
		parts    []string // names and contents
		readOnly bool
		status   int
		says     string
	}{
		"good":           {[]string{"request", good, "message", "Subject: a\r\n\r\n"}, false, 200, `"accepted":true`},
		"read only":      {[]string{"request", good, "message", "Subject: a\r\n\r\n"}, true, 403, "look only"},
		"no form":        {nil, false, 422, "is not multipart/form-data"},
		"wrong order":    {[]string{"message", "Subject: a\r\n\r\n", "request", good}, false, 422, `find the part request: here is \"message\"`},
		"no message":     {[]string{"request", good}, false, 422, "find the part message"},
		"unknown member": {[]string{"request", `{"listener":"mx","sender":"a"}`, "message", ""}, false, 422, "unknown field"},
		"no JSON":        {[]string{"request", "listener=mx", "message", ""}, false, 422, "read the part request"},
		"huge request":   {[]string{"request", `{"zone":"` + strings.Repeat("x", 4*check.MaxZone) + `"}`, "message", ""}, false, 422, "unexpected EOF"},
		"no address":     {[]string{"request", `{"listener":"mx","to":["a@example.test"]}`, "message", "a"}, false, 422, "the client has no address"},
	} {
		readOnly = c.readOnly
		var body strings.Builder
		contentType := "text/plain"
		if c.parts != nil {
			form := multipart.NewWriter(&body)
			for i := 0; i < len(c.parts); i += 2 {
				if err := form.WriteField(c.parts[i], c.parts[i+1]); err != nil {
					t.Fatal(err)
				}
			}
			if err := form.Close(); err != nil {
				t.Fatal(err)
			}
			contentType = form.FormDataContentType()
		}
		response, err := http.Post(server.URL+"/v1/check", contentType, strings.NewReader(body.String())) //nolint:noctx // it is a test
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != c.status || !strings.Contains(string(text), c.says) {
			t.Errorf("%s: %s, want %d and %q: %s", name, response.Status, c.status, c.says, text)
		}
	}
}

// TestCheckIsBrokenOff finds that a client that is still sending its message does not
// keep the server from ending.
func TestCheckIsBrokenOff(t *testing.T) {
	t.Parallel()
	ops := control.NewLocal(gatedHost(t, gated), "/data", nil)
	leaving := make(chan struct{})
	server := httptest.NewServer(control.NewHandler(control.HandlerOptions{
		Operations: func() control.Operations { return ops }, Actor: func(*http.Request) control.Actor { return control.Actor{Name: "test"} },
		Leaving: leaving, Logger: zap.NewNop(),
	}))
	defer server.Close()
	body, send := io.Pipe()
	form := multipart.NewWriter(send)
	go func() {
		err := form.WriteField("request", `{"listener":"mx","ip":"192.0.2.1","from":"","to":["alice@example.test"]}`)
		var part io.Writer
		if err == nil {
			part, err = form.CreateFormField("message")
		}
		if err == nil {
			_, err = io.WriteString(part, "Subject: a\r\n")
		}
		if err != nil {
			t.Errorf("send: %v", err)
		}
		close(leaving) // the rest never comes
	}()
	response, err := http.Post(server.URL+"/v1/check", form.FormDataContentType(), body) //nolint:noctx // it is a test
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_ = send.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "the server is shutting down") {
		t.Errorf("%s: %s, %v", response.Status, text, err)
	}
}

// TestCheckOfSlowMessage finds that a message that came too slowly took too long.
func TestCheckOfSlowMessage(t *testing.T) {
	t.Parallel()
	ops := control.NewLocal(gatedHost(t, gated), "/data", nil)
	if _, _, err := ops.Check(t.Context(), checked, iotest.ErrReader(check.ErrSlow)); !errors.Is(err, check.ErrSlow) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
