package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/mox-like/mox-like/core/store"
)

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "data 100% #1?")
	ids := map[string]int64{smallBody: 0, largeBody: 0}
	for range 3 {
		s, err := store.Open(t.Context(), dir, store.Options{BodyLimit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for content, id := range ids {
			if id != 0 {
				checkBody(t, s, id, content)
			}
			ids[content] = insert(t, s, content)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPermissions makes sure that nobody else can read the mail.
func TestPermissions(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s, err := store.Open(t.Context(), dir, store.Options{BodyLimit: 100})
	prepare(t, s, err)
	insert(t, s, largeBody)
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has permissions %s", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), dir, store.Options{})
	prepare(t, s, err)
	_, err = store.Open(t.Context(), dir, store.Options{})
	if !errors.Is(err, store.ErrLocked) {
		t.Fatalf("error %v, want ErrLocked", err)
	}
	for _, want := range []string{dir, strconv.Itoa(os.Getpid()), "stop it"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := store.Open(t.Context(), dir, store.Options{})
	prepare(t, again, err)
}

func TestOpenWhatIsNoDirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		file:                                  "is a file; name a directory",
		filepath.Join(file, "below"):          "not a directory: one above it is a file",
		filepath.Join(file, "below", "below"): "not a directory: one above it is a file",
	} {
		_, err := store.Open(t.Context(), dir, store.Options{})
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), want) {
			t.Errorf("open %s: error %v, want one that says %q", dir, err, want)
		}
	}
}

// TestOpenWhatCannotBeWritten has devices refuse what a disk may refuse, so that
// it holds for root too: the lock file is a link to one.
func TestOpenWhatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		title, device string
		is            error
		want          []string
	}{
		{"no space", "/dev/full", store.ErrFull, []string{"no space left for the data directory"}},
		{"no permission", "/proc/sys/kernel/ostype", fs.ErrPermission, []string{
			fmt.Sprintf("user %d may not write there", os.Getuid()), "give the directory to that user", "choose another data_dir",
		}},
	} {
		t.Run(tc.title, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			lock := filepath.Join(dir, "lock")
			if err := os.Symlink(tc.device, lock); err != nil {
				t.Fatal(err)
			}
			_, err := store.Open(t.Context(), dir, store.Options{})
			if !errors.Is(err, tc.is) {
				t.Fatalf("error %v, want %v", err, tc.is)
			}
			for _, want := range append(tc.want, "open data directory "+dir, lock) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

// TestOpenWhatIsNoDatabase leaves the file as it is, and the lock free.
func TestOpenWhatIsNoDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "mox-like.db")
	want := strings.Repeat("this is not a database. ", 1000)
	if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := store.Open(t.Context(), dir, store.Options{})
		if err == nil || errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "not a database") {
			t.Errorf("error %v", err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("the file was changed, %v", err)
	}
}

// TestLogStaysShort writes much more than the log may hold.
func TestLogStaysShort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), dir, store.Options{})
	prepare(t, s, err)
	content := strings.Repeat("x", 32<<10)
	var n atomic.Int64
	inParallel(8, func() {
		for n.Add(1) < 3000 {
			insert(t, s, content)
		}
	})
	info, err := os.Stat(filepath.Join(dir, "mox-like.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 64<<20 {
		t.Errorf("the log has %d MiB after 96 MiB of bodies", info.Size()>>20)
	}
}

// openSwept opens a store at a time and returns it once the bodies are swept.
func openSwept(t *testing.T, dir string, now time.Time) *store.Store {
	t.Helper()
	swept := make(chan struct{})
	log, _ := observed()
	log = log.WithOptions(zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "swept bodies" {
			close(swept)
		}
		return nil
	}))
	s, err := store.Open(t.Context(), dir, store.Options{BodyLimit: 100, Logger: log, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	<-swept
	return s
}

func closeStore(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSweep starts with a file that has a row and one that has none, which is
// kept aside for a week.
func TestSweep(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	s := openSwept(t, dir, now)
	id := insert(t, s, largeBody)
	lost := body(t, s, largeBody) // never inserted nor discarded, as in a crash
	closeStore(t, s)
	if got := bodyFiles(t, dir); len(got) != 2 {
		t.Fatalf("files %q, want 2", got)
	}
	for days, want := range []int{1, 1, 1, 1, 1, 1, 1, 0, 0} {
		s := openSwept(t, dir, now.Add(time.Duration(days)*24*time.Hour+time.Duration(days)*time.Minute))
		young := body(t, s, largeBody)
		checkBody(t, s, id, largeBody)
		aside, err := filepath.Glob(filepath.Join(dir, "bodies", "orphans", "*"))
		if err != nil || len(aside) != want {
			t.Errorf("after %d days files %q are aside, %v, want %d", days, aside, err, want)
		}
		if got := len(bodyFiles(t, dir)) - len(aside); got != 2 {
			t.Errorf("after %d days %d files are not aside, want the one with a row and the new one", days, got)
		}
		young.Discard()
		closeStore(t, s)
	}
	lost.Discard()
}

// TestOlderDatabase restores an older database, which does not know the last
// body, and then the newer one again.
func TestOlderDatabase(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now()
	path := filepath.Join(dir, "mox-like.db")
	s := openSwept(t, dir, now)
	first := insert(t, s, largeBody)
	closeStore(t, s)
	older := copyOf(t, path)
	s = openSwept(t, dir, now)
	second := insert(t, s, largeBody)
	closeStore(t, s)
	newer := copyOf(t, path)
	for _, content := range [][]byte{older, newer} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s = openSwept(t, dir, now)
		checkBody(t, s, first, largeBody)
		if &content[0] == &newer[0] {
			checkBody(t, s, second, largeBody)
		}
		closeStore(t, s)
	}
}

func copyOf(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestOpenWithoutDatabase leaves the bodies alone, however often it is tried.
func TestOpenWithoutDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "mox-like.db")
	s := openSwept(t, dir, time.Now())
	insert(t, s, largeBody)
	closeStore(t, s)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := store.Open(t.Context(), dir, store.Options{})
		if err == nil || !strings.Contains(err.Error(), "restore mox-like.db") {
			t.Errorf("error %v, want one that says what to do", err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := bodyFiles(t, dir); len(got) != 1 {
		t.Errorf("files %q, want the one that was there", got)
	}
	if err := os.Rename(filepath.Join(dir, "bodies"), filepath.Join(t.TempDir(), "away")); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), dir, store.Options{})
	prepare(t, s, err)
}

// TestDiscardRemovesTheFile also checks that the last reference does.
func TestDiscardRemovesTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), dir, store.Options{BodyLimit: 100})
	if err != nil {
		t.Fatal(err)
	}
	body(t, s, largeBody).Discard()
	if err := addRefs(s, insert(t, s, largeBody), -1); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := bodyFiles(t, dir); len(got) != 0 {
		t.Errorf("files %q are left", got)
	}
}

func bodyFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "bodies", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// crashDir tells the test binary to be the process that is killed.
const crashDir = "STORE_CRASH_DIR"

// writeUntilKilled writes from many goroutines and prints each ID that it was
// promised, until the end.
func writeUntilKilled(dir string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s, err := store.Open(context.Background(), dir, store.Options{BodyLimit: 1000})
	if err != nil {
		fail(err)
	}
	var n atomic.Int64
	inParallel(16, func() {
		for {
			content := crashBody(n.Add(1))
			b, err := s.PrepareBody(nil, strings.NewReader(content), int64(len(content)))
			if err != nil {
				fail(err)
			}
			var id int64
			err = s.Write(context.Background(), func(tx *store.Tx) (err error) {
				id, err = tx.InsertBody(b, 1)
				return err
			})
			if err != nil {
				fail(err)
			}
			fmt.Fprintf(os.Stdout, "%d %s\n", id, content[:20])
			b.Discard()
			s.Behind(func(tx *store.Tx) error { return tx.AddBodyRefs(id, 1) })
		}
	})
}

// crashBody makes a body that can be known by its first 20 bytes; every fourth
// one is large.
func crashBody(n int64) string {
	text := fmt.Sprintf("%020d", n)
	if n%4 == 0 {
		return strings.Repeat(text, 100)
	}
	return strings.Repeat(text, 3)
}

// TestCrash kills a process that writes, several times over. Whatever it has said
// to be written is there afterwards.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	promised := make(map[int64]string)
	for round := range 4 {
		before := len(promised)
		runAndKill(t, dir, 150+100*round, promised)
		if len(promised) == before {
			t.Fatal("nothing was written")
		}
		checkPromises(t, dir, promised)
	}
}

// runAndKill notes what the process says, which is killed after so many lines.
func runAndKill(t *testing.T, dir string, lines int, promised map[int64]string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	})
	scanner := bufio.NewScanner(out)
	for n := 0; scanner.Scan(); n++ {
		var id int64
		var text string
		if _, err := fmt.Sscan(scanner.Text(), &id, &text); err != nil || len(text) != 20 {
			continue // the line that the kill cut off
		}
		promised[id] = text
		if n == lines {
			kill()
		}
	}
	kill()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the process was not killed but ended: %v", err)
	}
}

func checkPromises(t *testing.T, dir string, promised map[int64]string) {
	t.Helper()
	s, err := store.Open(t.Context(), dir, store.Options{BodyLimit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for id, text := range promised {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		checkBody(t, s, id, crashBody(n))
	}
	err = s.Read(t.Context(), func(sn *store.Snapshot) error {
		var result string
		if err := sn.QueryRow("PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
			t.Errorf("integrity check: %s, %v", result, err)
		}
		return nil
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}
