package imap_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
)

// trusted is config with a certificate that programs accept.
func trusted(dataDir string) (source, cert string) {
	source = strings.Replace(fmt.Sprintf(config, ""), `tls "self_signed" {}`, "tls \"self_signed\" \"test\" {\n  hosts = [\"127.0.0.1\", \"localhost\"]\n}", 1)
	return source, filepath.Join(dataDir, "tls", "test.crt")
}

// program runs a program of the system, which must be there.
func program(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

func TestCurl(t *testing.T) {
	t.Parallel()
	dataDir := t.TempDir()
	source, cert := trusted(dataDir)
	s := coretest.Serve(t, source, coretest.Options{DataDir: dataDir})
	user := account(t, s, "alice")
	deliver(t, s, user, simple)
	base := []string{"--silent", "--show-error", "--cacert", cert, "--user", user + ":" + password}
	imaps := "imaps://" + coretest.Address(t, s, "imaps") + "/"
	curl := func(args ...string) string { return program(t, "curl", append(base, args...)...) }

	if got := curl(imaps + "INBOX;UID=1"); got != strings.ReplaceAll(simple, "\n", "\r\n") {
		t.Errorf("fetched %q", got)
	}
	if got := curl(imaps+"INBOX;UID=1;SECTION=TEXT", "--login-options", "AUTH=PLAIN"); got != "Hi there\r\n" {
		t.Errorf("fetched %q", got)
	}
	message := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(message, []byte("Subject: From curl\r\n\r\nBody\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	curl("--upload-file", message, imaps+"INBOX")
	if got := curl(imaps + "INBOX?SUBJECT%20curl"); strings.TrimSpace(got) != "* SEARCH 2" {
		t.Errorf("found %q", got)
	}
	starttls := "imap://" + coretest.Address(t, s, "imap") + "/"
	if got := curl("--ssl-reqd", starttls, "--request", "STATUS INBOX (MESSAGES)"); strings.TrimSpace(got) != "* STATUS INBOX (MESSAGES 2)" {
		t.Errorf("status %q", got)
	}
}

// TestMbsync syncs both ways until both sides are equal.
func TestMbsync(t *testing.T) {
	t.Parallel()
	dataDir, local := t.TempDir(), t.TempDir()
	source, cert := trusted(dataDir)
	s := coretest.Serve(t, source, coretest.Options{DataDir: dataDir})
	user := account(t, s, "alice")
	fill(t, s, user, 30)
	deliver(t, s, user, multipart)
	host, port, err := net.SplitHostPort(coretest.Address(t, s, "imaps"))
	if err != nil {
		t.Fatal(err)
	}
	rc := filepath.Join(t.TempDir(), "mbsyncrc")
	write(t, rc, fmt.Sprintf(`IMAPAccount test
Host %s
Port %s
User %s
Pass "%s"
SSLType IMAPS
CertificateFile %s

IMAPStore remote
Account test

MaildirStore local
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel test
Far :remote:
Near :local:
Patterns *
Create Both
Expunge Both
SyncState *
`, host, port, user, password, cert, local, local))
	program(t, "mbsync", "-c", rc, "-a")
	if got := mails(t, local, "INBOX"); len(got) != 31 {
		t.Fatalf("%d messages came down, want 31", len(got))
	}
	// What is new here goes up; what is deleted here goes there too.
	if err := os.Remove(mails(t, local, "INBOX")[0]); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(local, "INBOX", "new", "1.test.local"), "From: alice@example.test\nSubject: Local\n\nBorn here\n")
	program(t, "mbsync", "-c", rc, "-a")
	login(t, s, user).run(`
		-> b SELECT INBOX
		<- * 31 EXISTS
		<* b OK
		-> c SEARCH SUBJECT local
		<- * SEARCH 31
		<- c OK SEARCH completed`)
	again := program(t, "mbsync", "-c", rc, "-a", "-V")
	if got := mails(t, local, "INBOX"); len(got) != 31 {
		t.Errorf("%d messages after the last sync, want 31\n%s", len(got), again)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, bytes.TrimLeft([]byte(text), "\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// mails lists the files of a maildir.
func mails(t *testing.T, root, box string) []string {
	t.Helper()
	var list []string
	for _, sub := range []string{"new", "cur"} {
		found, err := filepath.Glob(filepath.Join(root, box, sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	return list
}
