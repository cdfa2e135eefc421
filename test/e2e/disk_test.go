package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// smallDisk puts the site's data directory on a file system of its own with that
// many bytes, until the end of the test.
func (s *site) smallDisk(t *testing.T, size string) {
	t.Helper()
	if err := os.Mkdir(s.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", s.data, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0700,size="+size); err != nil {
		t.Fatalf("mount a file system of %s on %s: %v; this test needs root, in a container with CAP_SYS_ADMIN", size, s.data, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(s.data, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", s.data, err)
		}
	})
}

// fill sends letters until the server has refused a number of them in a row, for
// want of room and nothing else.
func (l *ledger) fill(t *testing.T, p *process, size func(n int) int) {
	t.Helper()
	const enough = 12 // in a row
	s := connect(t, p.address(t, "mx"))
	for n, refusals := 0, 0; refusals < enough; n++ {
		err := l.post(s, size(n), alice+"/INBOX", bob+"/INBOX")
		r, refused := errors.AsType[*refusal](err)
		switch {
		case err == nil:
			refusals = 0
		case !refused:
			t.Fatalf("message %d: %v", n, err)
		case strings.HasPrefix(r.reply, "452 4.3.1 "):
			refusals++
		default:
			t.Fatalf("message %d is refused by %q, not 452 4.3.1", n, r.reply)
		}
	}
	if err := s.quit(); err != nil {
		t.Errorf("quit: %v", err)
	}
}

// TestFullDisk fills the disk under the server, and makes room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	site.smallDisk(t, "8m")
	p := site.serve(t, alice, bob)
	l := newLedger(t)
	filler := filepath.Join(site.data, "filler")
	if err := os.WriteFile(filler, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	l.fill(t, p, func(n int) int { return []int{largeLetter, 3000, 40_000, 2 * largeLetter}[n%4] })
	l.fill(t, p, func(int) int { return 300 })

	// What needs no room goes on.
	stored := l.acknowledgements()
	if stored < 10 {
		t.Errorf("only %d messages had room", stored)
	}
	l.check(t, p)
	r := p.read(t, alice)
	err := r.add("Archive", string(l.letter(largeLetter, alice+"/Archive").content))
	if err == nil || !strings.Contains(err.Error(), "imap: NO") {
		t.Errorf("APPEND on a full disk gives %v, not NO", err)
	}
	if got := len(r.messages(t, "INBOX")); got != stored {
		t.Errorf("after the refused APPEND alice reads %d messages, not %d", got, stored)
	}

	// With room the same process takes mail again.
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s := connect(t, p.address(t, "mx"))
	for _, size := range []int{300, largeLetter} {
		if err := l.post(s, size, alice+"/INBOX", bob+"/INBOX"); err != nil {
			t.Errorf("with room again, a message of %d bytes: %v", size, err)
		}
	}
	l.check(t, p)
	p.stop(t)
	p = site.start(t)
	l.check(t, p)
	p.stop(t)
	checkDatabase(t, filepath.Join(site.data, "mox-like.db"))
}

// TestStartOnAFullDisk starts a server that has no room, which must not cost any
// mail.
func TestStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	site.smallDisk(t, "4m")
	p := site.serve(t, alice, bob)
	l := newLedger(t)
	l.fill(t, p, func(n int) int { return []int{largeLetter, 300}[n%2] })
	p.kill()

	p = site.start(t)
	l.check(t, p)
	// The database cannot be tidied up at the end, which costs nothing but has to
	// be said.
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 && !strings.Contains(p.log(t), "no space left") {
		t.Errorf("after SIGTERM the server exits with %d and does not say why", code)
	}
	l.check(t, site.start(t))
}
