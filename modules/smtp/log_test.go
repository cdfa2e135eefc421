package smtp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core/logkey"
)

// TestLog pins the lines that a session leaves at each level, the keys, and that
// no password is in them.
func TestLog(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	k := newKit(t, options{body: "tls = \"implicit\"\nauth = \"required\"\nlimits { errors = 1 }", judge: login, log: zap.New(core)})
	k.dialog(t, "TLS"+hello+`
		-> AUTH LOGIN
		<- 334 *
		-> `+b64("alice@example.test")+`
		<- 334 *
		-> `+b64("not the password")+`
		<- 535 *
		-> AUTH PLAIN `+b64("\x00alice@example.test\x00secret")+`
		<- 235 *
		`+envelope+`
		-> DATA
		<- 354 *
		=> "From: a@example.test\r\n\r\nhi\r\n.\r\n"
		<- 250 *
		-> FOO
		<- 500 *
		-> FOO
		<- 500 *
		<- 421 *
		EOF
	`)
	k.drained(t)
	known := []string{
		logkey.Session, logkey.Message, logkey.RemoteIP, logkey.Listener, logkey.Helo, logkey.ReversePath, logkey.Recipient, logkey.User, logkey.Size,
		logkey.ReplyCode, logkey.Reply, logkey.Handler, logkey.Verdict, logkey.Reason, logkey.Command, logkey.Duration, logkey.Error, logkey.Mechanism,
	}
	var info []string
	for _, e := range logs.All() {
		if e.Level == zap.InfoLevel {
			info = append(info, e.Message)
		}
		for _, f := range e.Context {
			if !slices.Contains(known, f.Key) {
				t.Errorf("unknown key %q", f.Key)
			}
		}
		text := fmt.Sprint(e.Message, e.ContextMap())
		for _, secret := range []string{"secret", "not the password", b64("secret"), b64("not the password"), b64("\x00alice@example.test\x00secret")} {
			if strings.Contains(text, secret) {
				t.Errorf("password in %s", text)
			}
		}
	}
	want := []string{"login refused", "login accepted", "message accepted", "session ended"}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// TestErrorLog pins that what go-smtp has to say reaches the log.
func TestErrorLog(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	k := newListener(t, options{log: zap.New(core), storeless: true})
	k.listener.errorLog.Printf("panic serving %d", 1)
	k.listener.errorLog.Println("panic", 2)
	var got []string
	for _, e := range logs.FilterLevelExact(zap.ErrorLevel).All() {
		got = append(got, e.Message)
	}
	if diff := cmp.Diff([]string{"panic serving 1", "panic 2"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
