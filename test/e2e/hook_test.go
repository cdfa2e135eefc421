package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// judging is a listener on whose mail a hook decides.
func judging(name, hook string) string {
	return fmt.Sprintf("\nlistener \"smtp\" %q {\n address = \"127.0.0.1:0\"\n chain {\n %s\n deliver {}\n }\n}\n", name, hook)
}

// script writes a program for /bin/sh.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "judge")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestHooks has a program and a web service decide about mail.
func TestHooks(t *testing.T) {
	t.Parallel()
	judge := script(t, `request=$(cat)
case "$request" in
*"lottery"*) echo '{"action":"reject","text":"No lotteries here","reason":"a lottery","code":550,"enhanced":"5.7.1"}' ;;
*"later"*) echo '{"action":"defer","text":"Come back"}' ;;
*) echo '{"action":"continue","tags":["hook=seen"],"add_header":{"X-Judge":"program"}}' ;;
esac
`)
	const secret = "0123456789abcdef0123456789abcdef"
	var asked, forged atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, err := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "%s.%s", r.Header.Get("X-Mox-Like-Timestamp"), body)
		if err != nil || r.Header.Get("X-Mox-Like-Signature") != hex.EncodeToString(mac.Sum(nil)) {
			forged.Add(1)
		}
		var request struct {
			Envelope struct {
				ReversePath string `json:"reverse_path"`
			} `json:"envelope"`
			Message struct {
				Header []struct{ Name, Value string } `json:"header"`
			} `json:"message"`
		}
		if err := json.Unmarshal(body, &request); err != nil || request.Envelope.ReversePath != stranger {
			forged.Add(1)
		}
		action := "continue"
		for _, field := range request.Message.Header {
			if strings.EqualFold(field.Name, "Subject") && strings.Contains(field.Value, "junk") {
				action = "quarantine"
			}
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"action":%q,"reason":"as the service says","add_header":{"X-Judge":"service"}}`, action)
	}))
	t.Cleanup(service.Close)
	p := newSite(t, settings{
		More: judging("program", fmt.Sprintf("exec \"judge\" {\n command = [%q]\n }", judge)) +
			judging("service", fmt.Sprintf("http \"judge\" {\n url = %q\n secret = %q\n }", service.URL, secret)),
	}).serve(t, alice)
	bring := func(listener, subject string) result {
		return swaks(t, "--server", p.address(t, listener), "--from", stranger, "--to", alice,
			"--header", "Subject: "+subject, "--header", "X-Judge: forged")
	}
	expect(t, bring("program", "Hello"), 0, `250 2\.0\.0 OK`)
	id := expect(t, bring("program", "A lottery"), swaksData, `550 5\.7\.1 No lotteries here`)
	if e := p.trace(t, id).at(t, "data", "judge"); e.Action != "reject" || !strings.Contains(e.Reason, "a lottery") {
		t.Errorf("the trace says %+v", e)
	}
	expect(t, bring("program", "Not now, later"), swaksData, `451 4\.7\.1 Come back`)
	expect(t, bring("service", "Hello, service"), 0, `250 2\.0\.0 OK`)
	id = expect(t, bring("service", "This is junk"), 0, `250 2\.0\.0 OK`)
	if e := p.trace(t, id).at(t, "data", "judge"); e.Action != "quarantine" || !strings.Contains(e.Reason, "as the service says") {
		t.Errorf("the trace says %+v", e)
	}
	if asked.Load() != 2 || forged.Load() != 0 {
		t.Errorf("the service was asked %d times, %d of them by an odd request", asked.Load(), forged.Load())
	}

	inbox := p.stored(t)
	if m := inbox["Hello"]; m.field("X-Judge") != "program" || m.field("X-Mox-Like-Tags") != "hook=seen" || strings.Contains(m.Text, "forged") {
		t.Errorf("the program's message is\n%s", m.Text)
	}
	if m := inbox["Hello, service"]; m.field("X-Judge") != "service" || strings.Contains(m.Text, "forged") {
		t.Errorf("the service's message is\n%s", m.Text)
	}
	junk := p.read(t, alice).messages(t, "Junk")
	if len(inbox) != 2 || len(junk) != 1 || junk[0].field("Subject") != "This is junk" {
		t.Errorf("alice has %d messages in INBOX and %+v in Junk", len(inbox), junk)
	}
	if left, err := filepath.Glob("/proc/[0-9]*/cmdline"); err != nil || slices.ContainsFunc(left, func(name string) bool {
		text, err := os.ReadFile(name)
		return err == nil && strings.Contains(string(text), judge)
	}) {
		t.Errorf("a program of the hook still runs (%v)", err)
	}
}
