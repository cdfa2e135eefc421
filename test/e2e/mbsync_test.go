package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/test/daemon"
)

// maildir is a tree of Maildirs that mbsync keeps like the mailboxes of alice.
type maildir struct {
	dir, rc string
}

// newMaildir writes a configuration for mbsync. TLS is checked against the
// server's certificate.
func newMaildir(t *testing.T, p *process, secret string) *maildir {
	t.Helper()
	dir := t.TempDir()
	host, port, _ := strings.Cut(p.address(t, "imaps"), ":")
	rc := fmt.Sprintf(`IMAPAccount server
Host %s
Port %s
User %s
Pass "%s"
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account server

MaildirStore near
Path %s/mail/
Inbox %[6]s/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
`, host, port, alice, secret, filepath.Join(p.data, "tls", "test.crt"), dir)
	m := &maildir{dir: filepath.Join(dir, "mail"), rc: filepath.Join(dir, "mbsyncrc")}
	if err := os.WriteFile(m.rc, []byte(rc), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return m
}

// sync runs mbsync both ways.
func (m *maildir) sync(t *testing.T) {
	t.Helper()
	r := run(t, command(t, daemon.Program(t, "mbsync"), "--config", m.rc, "--all"))
	if r.code != 0 {
		t.Fatalf("mbsync: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// files gives the messages of a mailbox by their Subject: the paths of the files.
func (m *maildir) files(t *testing.T, mailbox string) map[string]string {
	t.Helper()
	list := make(map[string]string)
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(m.dir, mailbox, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(m.dir, mailbox, sub, e.Name())
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			subject := message{Text: strings.ReplaceAll(string(text), "\n", "\r\n")}.field("Subject")
			if list[subject] != "" {
				t.Errorf("the Maildir %s has %q twice", mailbox, subject)
			}
			list[subject] = path
		}
	}
	return list
}

// flag gives a message's file other flags, which are the letters behind ":2,".
func (m *maildir) flag(t *testing.T, mailbox, subject, letters string) {
	t.Helper()
	path := m.files(t, mailbox)[subject]
	base, _, _ := strings.Cut(filepath.Base(path), ":")
	rename(t, path, filepath.Join(m.dir, mailbox, "cur", base+":2,"+letters))
}

// move puts a message into another mailbox, as mail programs do: under a name
// without the UID of the old one.
func (m *maildir) move(t *testing.T, from, subject, to string) {
	t.Helper()
	rename(t, m.files(t, from)[subject], filepath.Join(m.dir, to, "cur", "moved."+strings.ReplaceAll(subject, " ", "")+":2,S"))
}

// write makes a message in a mailbox.
func (m *maildir) write(t *testing.T, mailbox, subject string) {
	t.Helper()
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(m.dir, mailbox, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	text := "From: <alice@example.test>\nSubject: " + subject + "\nMessage-ID: <" + strings.ReplaceAll(subject, " ", ".") + "@example.test>\n\nWritten here.\n"
	if err := os.WriteFile(filepath.Join(m.dir, mailbox, "new", "written."+strings.ReplaceAll(subject, " ", "")), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// state gives all files with their contents, and the server's mailboxes with the
// UIDs and flags.
func (m *maildir) state(t *testing.T, r *reader, mailboxes ...string) map[string]string {
	t.Helper()
	state := make(map[string]string)
	err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") { // mbsync's own, which has times in it
			return err
		}
		text, err := os.ReadFile(path)
		state[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, mailbox := range mailboxes {
		for _, one := range r.messages(t, mailbox) {
			state[fmt.Sprintf("%s UID %d", mailbox, one.UID)] = fmt.Sprint(one.Flags) + one.Text
		}
	}
	return state
}

// flags gives the flags of the messages of a mailbox by their Subject.
func (r *reader) flags(t *testing.T, mailbox string) map[string]string {
	t.Helper()
	list := make(map[string]string)
	for _, m := range r.messages(t, mailbox) {
		subject := m.field("Subject")
		if _, ok := list[subject]; ok {
			t.Errorf("%s has %q twice", mailbox, subject)
		}
		list[subject] = fmt.Sprint(m.Flags)
	}
	return list
}

// TestMbsync keeps a Maildir and the server alike, with changes on both sides.
func TestMbsync(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{}).serve(t, alice)
	s := connect(t, p.address(t, "mx"))
	for n := range 20 {
		wire := fmt.Sprintf("From: <%s>\r\nSubject: Letter %d\r\nMessage-ID: <%d@example.org>\r\n\r\nText of %d.\r\n.\r\n", stranger, n, n, n)
		if _, err := s.send([]byte(wire), alice); err != nil {
			t.Fatal(err)
		}
	}
	r := p.read(t, alice)
	for _, name := range []string{"Work", "Work/Plans"} {
		if err := r.Create(name, nil).Wait(); err != nil {
			t.Fatalf("create %s: %v", name, err)
		}
	}
	if err := r.add("Work/Plans", "Subject: Plan\r\n\r\nText.\r\n", imap.FlagSeen, imap.FlagFlagged); err != nil {
		t.Fatal(err)
	}
	local := newMaildir(t, p, password)
	local.sync(t)
	if got := len(local.files(t, "INBOX")); got != 20 {
		t.Fatalf("the Maildir has %d messages, want 20", got)
	}
	if got := local.files(t, "Work/Plans")["Plan"]; !strings.HasSuffix(got, ":2,FS") {
		t.Errorf("the flags did not come along: %s", got)
	}

	want := changeHere(t, local)
	local.sync(t)
	got := make(map[string]map[string]string)
	for mailbox := range want {
		got[mailbox] = r.flags(t, mailbox)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("what the server has after changes in the Maildir (-want +got):\n%s", diff)
	}

	changeThere(t, r)
	if _, err := s.send([]byte("From: <"+stranger+">\r\nSubject: New\r\n\r\nText.\r\n.\r\n"), alice); err != nil {
		t.Fatal(err)
	}
	local.sync(t)
	checkHere(t, local)

	mailboxes := slices.Sorted(maps.Keys(want))
	before := local.state(t, r, mailboxes...)
	local.sync(t)
	if diff := cmp.Diff(before, local.state(t, r, mailboxes...)); diff != "" {
		t.Errorf("one more sync changes (-before +after):\n%s", diff)
	}
}

// changeHere changes the Maildir, and gives what the server must have then: the
// flags, by mailbox and Subject.
func changeHere(t *testing.T, local *maildir) map[string]map[string]string {
	t.Helper()
	want := map[string]map[string]string{
		"INBOX":      make(map[string]string),
		"Work":       {"Written here": "[]"},
		"Work/Plans": {"Plan": `[\Flagged \Seen]`},
		"Made here":  {"First of its kind": "[]"},
	}
	for n := range 20 {
		want["INBOX"][fmt.Sprintf("Letter %d", n)] = "[]"
	}
	for subject, flag := range map[string][2]string{
		"Letter 0": {"S", `[\Seen]`},
		"Letter 1": {"FS", `[\Flagged \Seen]`},
		"Letter 2": {"RS", `[\Answered \Seen]`},
		"Letter 3": {"D", `[\Draft]`},
	} {
		local.flag(t, "INBOX", subject, flag[0])
		want["INBOX"][subject] = flag[1]
	}
	for _, subject := range []string{"Letter 4", "Letter 5"} {
		local.flag(t, "INBOX", subject, "ST")
		delete(want["INBOX"], subject)
	}
	if err := os.Remove(local.files(t, "INBOX")["Letter 6"]); err != nil {
		t.Fatal(err)
	}
	delete(want["INBOX"], "Letter 6")
	for _, subject := range []string{"Letter 7", "Letter 8", "Letter 9"} {
		local.move(t, "INBOX", subject, "Work")
		delete(want["INBOX"], subject)
		want["Work"][subject] = `[\Seen]`
	}
	local.write(t, "Work", "Written here")
	local.write(t, "Made here", "First of its kind")
	return want
}

// changeThere changes the mailboxes on the server.
func changeThere(t *testing.T, r *reader) {
	t.Helper()
	uids := make(map[string]imap.UID)
	for _, m := range r.messages(t, "INBOX") {
		uids[m.field("Subject")] = m.UID
	}
	if _, err := r.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	store := &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagFlagged}}
	if err := r.Store(imap.UIDSetNum(uids["Letter 10"]), store, nil).Close(); err != nil {
		t.Fatalf("store: %v", err)
	}
	store = &imap.StoreFlags{Op: imap.StoreFlagsDel, Silent: true, Flags: []imap.Flag{imap.FlagSeen}}
	if err := r.Store(imap.UIDSetNum(uids["Letter 1"]), store, nil).Close(); err != nil {
		t.Fatalf("store: %v", err)
	}
	if _, err := r.Move(imap.UIDSetNum(uids["Letter 11"]), "Archive").Wait(); err != nil {
		t.Fatalf("move: %v", err)
	}
	store = &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}
	if err := r.Store(imap.UIDSetNum(uids["Letter 12"]), store, nil).Close(); err != nil {
		t.Fatalf("store: %v", err)
	}
	if err := r.Expunge().Close(); err != nil {
		t.Fatalf("expunge: %v", err)
	}
}

// checkHere compares the Maildir with what changeThere did.
func checkHere(t *testing.T, local *maildir) {
	t.Helper()
	inbox, archive := local.files(t, "INBOX"), local.files(t, "Archive")
	for subject, ending := range map[string]string{"Letter 10": ":2,F", "Letter 1": ":2,F", "Letter 0": ":2,S"} {
		if !strings.HasSuffix(inbox[subject], ending) {
			t.Errorf("%s is %q, want the flags %s", subject, inbox[subject], ending)
		}
	}
	for _, subject := range []string{"Letter 11", "Letter 12"} {
		if inbox[subject] != "" {
			t.Errorf("%s is still in the Maildir", subject)
		}
	}
	if archive["Letter 11"] == "" {
		t.Error("what was moved to Archive on the server is not there in the Maildir")
	}
	if inbox["New"] == "" {
		t.Error("the new message is not in the Maildir")
	}
}
