package e2e

import (
	"database/sql"
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

const (
	crashRounds  = 30
	crashClients = 6
	// startupEvery is how often the crash comes while the server starts, and so
	// while it mends what the crash before has left.
	startupEvery = 5
	largeLetter  = 150 << 10 // more than body_limit: a file
)

// TestCrashLosesNothing kills the server again and again while clients send and
// one appends by IMAP. What was acknowledged must all be there in the end.
func TestCrashLosesNothing(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	site.serve(t, alice, bob, carol).kill()
	l := newLedger(t)
	began := time.Now()
	for round := range crashRounds {
		if round%startupEvery == startupEvery-1 {
			site.crashAtStart(t, time.Duration(l.chance(60))*time.Millisecond)
			continue
		}
		p := site.start(t)
		p.underLoad(t, l, p.kill)
	}
	t.Logf("%d rounds in %v", crashRounds, time.Since(began).Round(time.Millisecond))

	p := site.start(t)
	l.check(t, p)
	l.checkFiles(t, p)
	p.stop(t)
	checkDatabase(t, filepath.Join(site.data, "mox-like.db"))
}

// crashAtStart kills the server some time after its start.
func (s *site) crashAtStart(t *testing.T, after time.Duration) {
	t.Helper()
	cmd := exec.Command(binary, "run", "--config", s.file)
	cmd.Dir = s.dir
	p := s.launch(t, cmd)
	select {
	case <-time.After(after):
		p.kill()
	case <-p.ended:
		t.Fatalf("the server ends at its start, with %s:\n%s", p.cmd.ProcessState, p.log(t))
	}
}

// underLoad lets the crash happen while clients send, some time after the first
// message was acknowledged. Until then nothing may be refused.
func (p *process) underLoad(t *testing.T, l *ledger, crash func()) {
	t.Helper()
	archivist := p.read(t, bob)
	first, crashed := make(chan struct{}), make(chan struct{})
	took := sync.OnceFunc(func() { close(first) })
	refused := func(err error) {
		select {
		case <-crashed:
		default:
			if _, ok := errors.AsType[*refusal](err); ok {
				t.Error(err)
			}
		}
	}
	var clients sync.WaitGroup
	for range crashClients {
		clients.Go(func() { refused(l.flood(p.addresses["mx"], took)) })
	}
	clients.Go(func() {
		for {
			one := l.letter(2000, bob+"/Archive")
			if archivist.add("Archive", string(one.content)) != nil {
				return
			}
			l.acknowledge(one)
		}
	})
	select {
	case <-first:
	case <-time.After(patience):
		t.Error("no message was acknowledged before the crash")
	}
	<-time.After(time.Duration(l.chance(300)) * time.Millisecond)
	close(crashed)
	crash()
	clients.Wait()
}

// flood sends letters, several in a session, until an error, as when the server
// is gone. It calls took for each letter that was taken.
func (l *ledger) flood(address string, took func()) error {
	for {
		s, err := dial(address, "")
		if err != nil {
			return err
		}
		for range 1 + l.chance(5) {
			size := 200 + l.chance(6000)
			if l.chance(8) == 0 {
				size += largeLetter
			}
			readers := []string{alice + "/INBOX", bob + "/INBOX", carol + "/INBOX"}
			if err := l.post(s, size, readers[:1+l.chance(3)]...); err != nil {
				return errors.Join(err, s.conn.Close())
			}
			took()
		}
		if err := s.quit(); err != nil {
			return err
		}
	}
}

// checkFiles waits until there are as many files of large messages as there are
// large messages: what the crashes left of others is put aside.
func (l *ledger) checkFiles(t *testing.T, p *process) {
	t.Helper()
	want := 0
	for _, one := range l.letters {
		if one.found > 0 && len(one.content) > largeLetter {
			want++
		}
	}
	eventually(t, "only the files of stored messages are left", func() bool {
		n := 0
		err := filepath.WalkDir(filepath.Join(p.data, "bodies"), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "orphans" {
				return filepath.SkipDir
			}
			if err == nil && d.Type().IsRegular() {
				n++
			}
			return err
		})
		return err == nil && n == want
	})
	if want == 0 {
		t.Error("no large message was stored")
	}
	t.Logf("%d of the messages are files", want)
}

// checkDatabase has SQLite look for damage.
func checkDatabase(t *testing.T, name string) {
	t.Helper()
	db, err := sql.Open("sqlite", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // it was only read
	var report string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&report); err != nil {
		t.Fatal(err)
	}
	var dangling int
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM pragma_foreign_key_check").Scan(&dangling); err != nil {
		t.Fatal(err)
	}
	if report != "ok" || dangling != 0 {
		t.Errorf("SQLite finds damage: %s, and %d dangling references", report, dangling)
	}
}
