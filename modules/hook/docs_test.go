package hook

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// examples gives the blocks of a language in docs/hooks.md.
func examples(t *testing.T, language string) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/hooks.md")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, part := range strings.Split(string(page), "```"+language+"\n")[1:] {
		text, _, _ := strings.Cut(part, "```")
		list = append(list, text)
	}
	return list
}

// executable writes a file that can be run, see script.
func executable(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "judge")
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func withSubject(t *testing.T, subject string) *mail.Transaction {
	t.Helper()
	tx := coretest.Transaction(t, mail.StageData, 1)
	var err error
	if tx.Message, err = mail.NewMessage([]byte("Subject: " + subject + "\r\n\r\nHello.\r\n")); err != nil {
		t.Fatal(err)
	}
	return tx
}

// TestDocumentedForms holds the examples of the request and the answer against
// the schemas.
func TestDocumentedForms(t *testing.T) {
	t.Parallel()
	forms := examples(t, "json")
	if len(forms) != 2 {
		t.Fatalf("the page has %d examples in JSON", len(forms))
	}
	for i, name := range []string{"request.json", "answer.json"} {
		var v any
		if err := json.Unmarshal([]byte(forms[i]), &v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, fault := range fits(schemaOf(t, name), v, name) {
			t.Error(fault)
		}
	}
	if _, err := parseAnswer([]byte(forms[1]), mail.StageData); err != nil {
		t.Error(err)
	}
}

// TestDocumentedProgram runs the program of the page.
func TestDocumentedProgram(t *testing.T) {
	t.Parallel()
	e := loadExec(t, command(executable(t, examples(t, "python")[0])))
	for subject, want := range map[string]mail.Action{"Hello": mail.ActionContinue, "You won the LOTTERY": mail.ActionReject} {
		if v, err := e.Handle(t.Context(), withSubject(t, subject)); err != nil || v.Action != want {
			t.Errorf("%s: verdict %+v, %v, want %s", subject, v, err, want)
		}
	}
}

// TestDocumentedService runs the web service of the page.
func TestDocumentedService(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef0123456789abcdef"
	cmd := exec.CommandContext(t.Context(), executable(t, examples(t, "python")[1]), "0")
	cmd.Env = append(environment[:], "JUDGE_SECRET="+secret)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	port, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address := at(fmt.Sprintf("http://127.0.0.1:%s/judge", strings.TrimSpace(port)))
	h := loadHTTP(t, nil, address, fmt.Sprintf("secret = %q", secret))
	for domain, want := range map[string]mail.Action{"example.org": mail.ActionContinue, "lottery.example.org": mail.ActionQuarantine} {
		tx := coretest.Transaction(t, mail.StageData, 1)
		tx.Envelope.ReversePath.Domain = domain
		if v, err := h.Handle(t.Context(), tx); err != nil || v.Action != want {
			t.Errorf("%s: verdict %+v, %v, want %s", domain, v, err, want)
		}
	}
	forged := loadHTTP(t, nil, address, `secret = "another secret of some length"`)
	if v, err := forged.Handle(t.Context(), coretest.Transaction(t, mail.StageData, 1)); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("verdict %+v, %v with the wrong secret", v, err)
	}
}
