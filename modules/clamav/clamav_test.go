package clamav

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/test/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newHandler gives a handler with the defaults, but for what set changes.
func newHandler(address backend.Address, set func(*ClamAV)) *ClamAV {
	c := &ClamAV{
		Address: address, Infected: "reject", TooLarge: "accept", MaxSize: 25 << 20,
		MaxConnections: 10, ConnectTimeout: 5 * time.Second,
		hostname: "mx1.example.test", now: time.Now,
	}
	if set != nil {
		set(c)
	}
	c.client = &client{address: address, gate: backend.NewGate("clamd", c.MaxConnections), connectTimeout: c.ConnectTimeout}
	return c
}

func newTransaction(tb testing.TB, raw []byte) *mail.Transaction {
	tb.Helper()
	tx := mail.NewTransaction("test", new(mail.Session), time.Now())
	message, err := mail.NewMessage(raw)
	if err != nil {
		tb.Fatal(err)
	}
	tx.Message = message
	return tx
}

// header gives the header section of the message as it would be stored.
func header(tb testing.TB, tx *mail.Transaction) mail.HeaderSection {
	tb.Helper()
	r, err := tx.Rendered()
	if err != nil {
		tb.Fatal(err)
	}
	h, _, err := mail.ParseHeaderSection(r.Head())
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func plain(body string) []byte {
	return []byte("From: a@example.test\r\nSubject: Hello\r\n\r\n" + body)
}

// attachment gives a MIME message that carries content in base64.
func attachment(content []byte) []byte {
	var b bytes.Buffer
	b.WriteString("From: a@example.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"x\"\r\n\r\n" +
		"--x\r\nContent-Type: text/plain\r\n\r\nSee the attachment.\r\n" +
		"--x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n" +
		"Content-Disposition: attachment; filename=\"f.bin\"\r\n\r\n")
	text := base64.StdEncoding.EncodeToString(content)
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	b.WriteString(text + "\r\n--x--\r\n")
	return b.Bytes()
}

func zipped(tb testing.TB, content []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("f.com")
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := f.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestClamdFindsWhatIsInMessages(t *testing.T) {
	t.Parallel()
	clamd := daemon.Run(t, daemon.Clamd{})
	infected := mail.Verdict{
		Action: mail.ActionReject,
		Reply:  mail.NewReply(554, 7, 1, "Message contains a virus: Eicar-Test-Signature.UNOFFICIAL"),
		Reason: "infected with Eicar-Test-Signature.UNOFFICIAL, %d bytes, in ",
	}
	clean := mail.Verdict{Reason: "clean, %d bytes, in "}
	tests := map[string]struct {
		raw  []byte
		want mail.Verdict
	}{
		"clean":                 {plain("Hello\r\n"), clean},
		"empty":                 {nil, clean},
		"one chunk exactly":     {plain(strings.Repeat("x", chunkSize-len(plain("")))), clean},
		"several chunks":        {plain(strings.Repeat("some text\r\n", 100_000)), clean},
		"plain":                 {[]byte(daemon.EICAR), infected},
		"behind several chunks": {attachment(append(bytes.Repeat([]byte("some text "), 100_000), daemon.EICAR...)), infected},
		"base64 in MIME":        {attachment([]byte(daemon.EICAR)), infected},
		"zip in base64":         {attachment(zipped(t, []byte(daemon.EICAR))), infected},
		"clean zip":             {attachment(zipped(t, []byte("some text"))), clean},
	}
	for _, address := range []backend.Address{clamd.Unix, clamd.TCP} {
		for name, test := range tests {
			t.Run(address.Network+"/"+name, func(t *testing.T) {
				t.Parallel()
				got, err := newHandler(address, nil).Handle(t.Context(), newTransaction(t, test.raw))
				if err != nil {
					t.Fatal(err)
				}
				got.Reason = withoutDuration(t, got.Reason)
				want := test.want
				want.Reason = fmt.Sprintf(want.Reason, len(test.raw))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("verdict (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// withoutDuration takes the duration off the end of a reason, which must have
// one.
func withoutDuration(tb testing.TB, reason string) string {
	tb.Helper()
	i := strings.LastIndexByte(reason, ' ') + 1
	if _, err := time.ParseDuration(reason[i:]); err != nil {
		tb.Errorf("the reason %q does not end in a duration: %v", reason, err)
	}
	return reason[:i]
}

func TestInfectedSetting(t *testing.T) {
	t.Parallel()
	clamd := daemon.Run(t, daemon.Clamd{})
	tests := map[string]mail.Action{
		"reject":     mail.ActionReject,
		"quarantine": mail.ActionQuarantine,
		"tag":        mail.ActionContinue,
	}
	for setting, action := range tests {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			tx := newTransaction(t, []byte("x-virus-status: Clean\r\nX-Virus-Scanned: forged\r\nX-Virus-Status: Clean\r\n\r\n"+daemon.EICAR))
			got, err := newHandler(clamd.Unix, func(c *ClamAV) { c.Infected = setting }).Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			if got.Action != action {
				t.Errorf("action %s, want %s", got.Action, action)
			}
			var fields []string
			for _, f := range header(t, tx).Fields {
				fields = append(fields, string(f.Raw))
			}
			want := []string{
				"X-Virus-Status: Infected (Eicar-Test-Signature.UNOFFICIAL)\r\n",
				"X-Virus-Scanned: clamd at mx1.example.test\r\n",
			}
			if diff := cmp.Diff(want, fields); diff != "" {
				t.Errorf("header fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTooLargeIsNeverAPassInSilence(t *testing.T) {
	t.Parallel()
	streams := daemon.Run(t, daemon.Clamd{Settings: []string{"StreamMaxLength 1M", "MaxFileSize 25M"}})
	files := daemon.Run(t, daemon.Clamd{Settings: []string{"StreamMaxLength 25M", "MaxFileSize 1M"}})
	large := plain(strings.Repeat("some text\r\n", 300_000))
	limits := map[string]*ClamAV{
		"max_size":             newHandler(streams.Unix, func(c *ClamAV) { c.MaxSize = 1 << 20 }),
		"StreamMaxLength/unix": newHandler(streams.Unix, nil),
		"StreamMaxLength/tcp":  newHandler(streams.TCP, nil),
		"MaxFileSize":          newHandler(files.Unix, nil),
	}
	settings := map[string]struct {
		action mail.Action
		code   int
	}{
		"accept":     {mail.ActionContinue, 0},
		"quarantine": {mail.ActionQuarantine, 0},
		"reject":     {mail.ActionReject, 552},
		"defer":      {mail.ActionDefer, 452},
	}
	for limit, template := range limits {
		for setting, want := range settings {
			t.Run(limit+"/"+setting, func(t *testing.T) {
				t.Parallel()
				c := *template
				c.TooLarge, c.Infected = setting, "tag"
				tx := newTransaction(t, large)
				got, err := c.Handle(t.Context(), tx)
				if err != nil {
					t.Fatal(err)
				}
				if got.Action != want.action || got.Reply.Code != want.code {
					t.Errorf("verdict %s %d, want %s %d", got.Action, got.Reply.Code, want.action, want.code)
				}
				if !strings.HasPrefix(got.Reason, "not scanned") {
					t.Errorf("the reason %q does not say that the message was not scanned", got.Reason)
				}
				if status := header(t, tx).Get(fieldStatus); status != "Not scanned (too large)" {
					t.Errorf("%s is %q", fieldStatus, status)
				}
			})
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	clamd := daemon.Run(t, daemon.Clamd{Settings: []string{"MaxThreads 4", "MaxQueue 8"}})
	c := newHandler(clamd.Unix, func(c *ClamAV) { c.MaxConnections = 4 })
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			raw, want := plain(fmt.Sprintf("message %d\r\n", i)), mail.ActionContinue
			if i%3 == 0 {
				raw, want = attachment([]byte(daemon.EICAR)), mail.ActionReject
			}
			got, err := c.Handle(t.Context(), newTransaction(t, raw))
			if err != nil || got.Action != want {
				t.Errorf("message %d: %s, %v; want %s", i, got.Action, err, want)
			}
		})
	}
	wg.Wait()
}

func TestNoDaemonIsAnError(t *testing.T) {
	t.Parallel()
	for _, address := range []backend.Address{{Network: "unix", Name: "/nowhere/clamd.sock"}, {Network: "tcp", Name: coretest.Faulty(t, coretest.FaultRefused, "").Address}} {
		tx := newTransaction(t, append([]byte("X-Virus-Status: Clean\r\n"), plain("Hello\r\n")...))
		verdict, err := newHandler(address, nil).Handle(t.Context(), tx)
		if err == nil {
			t.Fatalf("verdict %+v without a daemon", verdict)
		}
		if want := "connect to clamd at " + address.String(); !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %q does not begin with %q", err, want)
		}
		if status := header(t, tx).Get(fieldStatus); status != "" {
			t.Errorf("an unscanned message says %q", status)
		}
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"unix:/run/clamav/clamd.ctl": true,
		"unix:clamd.ctl":             true,
		"tcp:127.0.0.1:3310":         true,
		"tcp:[::1]:3310":             true,
		"tcp:clamd.example.test:1":   true,
		"":                           false,
		"unix:":                      false,
		"/run/clamav/clamd.ctl":      false,
		"127.0.0.1:3310":             false,
		"tcp:127.0.0.1":              false,
		"tcp::3310":                  false,
		"tcp:127.0.0.1:":             false,
		"udp:127.0.0.1:3310":         false,
	}
	for text, good := range tests {
		var a backend.Address
		err := a.UnmarshalText([]byte(text))
		if (err == nil) != good {
			t.Errorf("%q: error %v", text, err)
		}
		if good && a.String() != text {
			t.Errorf("%q comes back as %q", text, a)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		c    ClamAV
		want []string
	}{
		"good": {ClamAV{Address: backend.Address{Network: "unix", Name: "/run/clamd.ctl"}, ConnectTimeout: time.Second}, nil},
		"long path": {
			ClamAV{Address: backend.Address{Network: "unix", Name: "/" + strings.Repeat("x", 107)}},
			[]string{"error: address"},
		},
	}
	for name, test := range tests {
		var got []string
		for _, p := range test.c.Validate() {
			got = append(got, p.Severity.String()+": "+p.Attribute)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// endless is a message of n bytes that takes no memory.
func endless(n int64) io.Reader { return io.LimitReader(zeros{}, n) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func BenchmarkScan4KB(b *testing.B) {
	clamd := daemon.Run(b, daemon.Clamd{})
	raw := plain(strings.Repeat("Some text of a line in a message.\r\n", 118))
	for _, address := range []backend.Address{clamd.Unix, clamd.TCP} {
		b.Run(address.Network, func(b *testing.B) {
			c := newHandler(address, nil)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Handle(context.Background(), newTransaction(b, raw)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestSettingsFromTheFile(t *testing.T) {
	t.Parallel()
	clamd := daemon.Run(t, daemon.Clamd{})
	kit := coretest.New(t, coretest.Options{})
	c := coretest.Load[*ClamAV](t, kit, "handler.clamav", fmt.Sprintf("clamav {\n address = %q\n}", clamd.Unix))
	got := *c
	got.client, got.now, got.hostname = nil, nil, ""
	want := ClamAV{
		Address: clamd.Unix, Infected: "reject", TooLarge: "accept", MaxSize: 25 << 20,
		MaxConnections: 10, ConnectTimeout: 5 * time.Second,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(ClamAV{}, backend.Address{})); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	verdict, err := c.Handle(t.Context(), newTransaction(t, attachment([]byte(daemon.EICAR))))
	if err != nil || verdict.Action != mail.ActionReject {
		t.Errorf("verdict %+v, %v; want a rejection", verdict, err)
	}
	other := coretest.Load[*ClamAV](t, kit, "handler.clamav", fmt.Sprintf("clamav \"again\" {\n address = %q\n infected = \"tag\"\n}", clamd.Unix))
	if other.client.gate != c.client.gate {
		t.Error("two handlers of one clamd do not share its connections")
	}
}

func TestMistakesInTheFile(t *testing.T) {
	t.Parallel()
	kit := coretest.New(t, coretest.Options{})
	tests := map[string]string{
		"clamav {}":                             "address",
		`clamav { address = "127.0.0.1:3310" }`: "unix:path",
		"clamav {\n address = \"unix:a\"\n infected = \"delete\"\n}": "infected",
		"clamav {\n address = \"unix:a\"\n max_size = \"1B\"\n}":     "max_size",
	}
	for source, want := range tests {
		if _, err := kit.Load(t.Context(), "handler.clamav", source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", source, err, want)
		}
	}
}
