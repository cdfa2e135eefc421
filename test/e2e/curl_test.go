package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/test/daemon"
)

// TestCurl works on mailboxes the way scripts do.
func TestCurl(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{}).serve(t, alice)
	dir := t.TempDir()
	for name, subject := range map[string]string{"one": "First", "two": "Second"} {
		text := "From: <alice@example.test>\r\nSubject: " + subject + "\r\nMessage-ID: <" + name + "@example.test>\r\n\r\nText of " + name + ".\r\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name, path string
		args       []string
		want       string // a pattern of the whole output
	}{
		{"list", "", nil, `(?s).*\* LIST \(.*\) "/" "?INBOX"?\r\n.*`},
		{"list special use", "", []string{"-X", `LIST (SPECIAL-USE) "" "*"`}, `(?s).*\\Junk.*`},
		{"create", "", []string{"-X", "CREATE Receipts"}, ``},
		{"append", "Receipts", []string{"-T", filepath.Join(dir, "one")}, ``},
		{"append another", "Receipts", []string{"-T", filepath.Join(dir, "two")}, ``},
		{"status", "", []string{"-X", "STATUS Receipts (MESSAGES UIDNEXT)"}, `\* STATUS "?Receipts"? \(MESSAGES 2 UIDNEXT 3\)\r\n`},
		{"search", "Receipts?SUBJECT%20Second", nil, `\* SEARCH 2\r\n`},
		{"search text", "Receipts?BODY%20%22of%20one%22", nil, `\* SEARCH 1\r\n`},
		{"search nothing", "Receipts?SUBJECT%20Third", nil, `\* SEARCH\r\n`},
		{"fetch by number", "Receipts;MAILINDEX=1", nil, `(?s).*Subject: First\r\n.*\r\n\r\nText of one\.\r\n`},
		{"fetch by UID", "Receipts;UID=2", nil, `(?s).*Subject: Second\r\n.*`},
		{"fetch a section", "Receipts;UID=2;SECTION=TEXT", nil, `Text of two\.\r\n`},
		{"fetch header fields", "Receipts;UID=2;SECTION=HEADER.FIELDS%20(Subject)", nil, `Subject: Second\r\n\r\n`},
		{"store", "Receipts", []string{"-X", `STORE 1 +FLAGS (\Deleted $Paid)`}, `(?s)\* 1 FETCH .*\\Deleted.*`},
		{"search flags", "Receipts?KEYWORD%20%24Paid", nil, `\* SEARCH 1\r\n`},
		{"expunge", "Receipts", []string{"-X", "EXPUNGE"}, `\* 1 EXPUNGE\r\n`},
		{"one is left", "Receipts", []string{"-X", "UID SEARCH ALL"}, `\* SEARCH 2\r\n`},
		{"rename", "", []string{"-X", "RENAME Receipts Bills/2026"}, ``},
		{"it is there", "Bills/2026;UID=2;SECTION=TEXT", nil, `Text of two\.\r\n`},
		{"delete", "", []string{"-X", "DELETE Bills/2026"}, ``},
	} {
		got := p.curl(t, alice, step.path, step.args...)
		if !regexp.MustCompile("^(?:" + step.want + ")$").MatchString(got) {
			t.Errorf("%s: curl prints %q, not %s", step.name, got, step.want)
		}
	}
	if list := p.curl(t, alice, ""); strings.Contains(list, "2026") {
		t.Errorf("after DELETE the list is\n%s", list)
	}
	r := run(t, command(t, daemon.Program(t, "curl"), "--silent", "--insecure", "--user", alice+":wrong", "imaps://"+p.address(t, "imaps")+"/"))
	const loginDenied = 67
	if r.code != loginDenied {
		t.Errorf("with a wrong password curl exits with %d, not %d", r.code, loginDenied)
	}
}
