package dkim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dkimkey"
	"github.com/mox-like/mox-like/core/store"
)

func (r *ring) path(selector string) string {
	return filepath.Join(r.dir, "dkim", "example.org", selector+".pem")
}

func (r *ring) read(t *testing.T, selector string) []byte {
	t.Helper()
	text, err := os.ReadFile(r.path(selector))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// retired makes a ring whose key s1 is retired, and gives what the key was.
func retired(t *testing.T) (r *ring, content []byte) {
	t.Helper()
	r = newRing(t)
	if _, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{Algorithms: []string{dkimkey.Ed25519}, Selector: "s1"}); err != nil {
		t.Fatal(err)
	}
	content = r.read(t, "s1")
	for range 3 { // make new ones, sign with them, delete the old one
		r.clock.Add(time.Hour)
		r.rotate(t, true)
	}
	expect(t, "states", r.states(t), "s1 retired, s20261101-ed25519 active")
	return r, content
}

// TestRetiredFileThatStayed: a crash came between the row and the file. The next start
// deletes the file, and until it is gone the key is never forgotten, since it would be
// taken for a new one.
func TestRetiredFileThatStayed(t *testing.T) {
	t.Parallel()
	r, stolen := retired(t)
	r.place(t, "s1", stolen)
	r.clock.Add(366 * 24 * time.Hour)
	service := coretest.Service[*Service](t, r.host)
	sweep := func() (n int) {
		t.Helper()
		if err := r.host.Store().Write(t.Context(), func(tx *store.Tx) (err error) {
			n, err = service.Sweep(tx, r.clock.Now(), 10)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if step := r.rotate(t, true); !strings.Contains(words(step), "Deleted the private key of s1, which was retired before.") {
		t.Errorf("it says %s", words(step))
	}
	r.place(t, "s1", stolen)
	if n := sweep(); n != 0 {
		t.Errorf("forgot %d keys whose file is there", n)
	}
	r.restart(t)
	if _, err := os.Stat(r.path("s1")); !os.IsNotExist(err) {
		t.Errorf("after a start: %v", err)
	}
	expect(t, "states", r.states(t), "s1 retired, s20261101-ed25519 active, s20271102-ed25519 pending")
	service = coretest.Service[*Service](t, r.host)
	r.clock.Add(366 * 24 * time.Hour)
	if n := sweep(); n != 1 {
		t.Errorf("forgot %d keys", n)
	}
	expect(t, "states", r.states(t), "s20261101-ed25519 active, s20271102-ed25519 pending")
}

// TestRetiredBeforeItsFileGoes: where the file cannot be deleted, the row says already
// that the key is retired.
func TestRetiredBeforeItsFileGoes(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	if _, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{Algorithms: []string{dkimkey.Ed25519}, Selector: "s1"}); err != nil {
		t.Fatal(err)
	}
	r.rotate(t, true)
	r.rotate(t, true)
	if err := os.Remove(r.path("s1")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(r.path("s1"), "full"), 0o700); err != nil { // which cannot be deleted
		t.Fatal(err)
	}
	if _, err := r.RotateDKIM(t.Context(), "example.org", true); err == nil || !strings.Contains(err.Error(), "delete private key s1") {
		t.Errorf("error %v", err)
	}
	if keys := r.keys(t); keys[0].Selector != "s1" || keys[0].State != control.DKIMRetired {
		t.Errorf("%+v", keys[0])
	}
}

// TestClientHangsUp: what was written is in force, whoever has stopped to wait for it.
func TestClientHangsUp(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	service := coretest.Service[*Service](t, r.host)
	ctx, cancel := context.WithCancel(t.Context())
	c, err := service.begin(ctx, control.DKIMDomain{Name: "example.org", Blocks: []control.DKIMBlock{{Managed: true, Overlap: time.Hour}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.make(ctx, []string{dkimkey.Ed25519}, "s1"); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := c.end(ctx); err != nil {
		t.Error(err)
	}
	expect(t, "signs", r.signs(t, r.handler(t)), "s1")
}

// TestExposedKeys: files of the server's that others can get at are found, and mended
// where that is safe.
func TestExposedKeys(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	if _, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{Algorithms: []string{dkimkey.Ed25519}, Selector: "s1"}); err != nil {
		t.Fatal(err)
	}
	r.publish(r.keys(t)...)
	chmod := func(mode os.FileMode) {
		t.Helper()
		for _, path := range []string{r.path("s1"), filepath.Dir(r.path("s1"))} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	found := func() string {
		t.Helper()
		report, err := r.CheckDKIM(t.Context(), "example.org")
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, f := range report.Keys[0].Findings {
			list = append(list, strings.ReplaceAll(f.Code+" "+f.Text, r.dir, "DIR"))
		}
		return strings.Join(list, ", ")
	}
	expect(t, "findings", found(), "")
	chmod(0o755)
	expect(t, "findings", found(), "exposed other users of this machine can get at DIR/dkim/example.org/s1.pem (mode 0755); run: chmod 0600 DIR/dkim/example.org/s1.pem; if somebody may have read it, run 'mox-like dkim rotate example.org'")
	r.restart(t)
	watch, seen := observer.New(zap.WarnLevel)
	coretest.Service[*Service](t, r.host).log = zap.New(watch)
	expect(t, "signs all the same", r.signs(t, r.handler(t)), "s1")
	if seen.FilterMessageSnippet("others could get at a DKIM key").Len() != 1 {
		t.Errorf("the log has %v", seen.All())
	}
	expect(t, "findings once it has signed", found(), "")
	r.rotate(t, false) // makes new keys in the folder
	if info, err := os.Stat(filepath.Dir(r.path("s1"))); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
}

// TestLinksAreNoKeys: what is not a file of the server's own is neither taken up nor
// changed.
func TestLinksAreNoKeys(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.made(t)
	other := filepath.Join(t.TempDir(), "other.pem")
	if err := os.WriteFile(other, testKeys()["rsa"].pem, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(other, 0o640); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	if err := os.Symlink(other, r.path("linked")); err != nil {
		t.Fatal(err)
	}
	r.rotate(t, false)
	for _, k := range r.keys(t) {
		if k.Selector == "linked" {
			t.Errorf("took up %+v", k)
		}
	}
	if info, err := os.Stat(other); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the target of the link has mode %v, %v", info.Mode(), err)
	}
	if err := os.Remove(r.path("s20261101-rsa")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, r.path("s20261101-rsa")); err != nil {
		t.Fatal(err)
	}
	r.restart(t)
	expect(t, "signs", r.signs(t, r.handler(t)), "s20261101-ed25519")
}

// TestOwnerOfKeys holds what is said of a key that another user owns, who can read it.
func TestOwnerOfKeys(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // nobody else can give files away
	}
	path := write(t, "key.pem", testKeys()["rsa"].pem)
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if err := checkOwn(path, 0, 0o600); err == nil || !strings.Contains(err.Error(), "belongs to user 12345, and not to 0, who the server is; run: chown 0 ") {
		t.Errorf("error %v", err)
	}
	if err := mendMode(path, 0, 0o600); err == nil {
		t.Error("a file of another user is taken for mended")
	}
}

// TestKeyForAnotherUser: a key that the server cannot read once it has dropped root
// keeps it from starting, and validate says so.
func TestKeyForAnotherUser(t *testing.T) {
	t.Parallel()
	dir := keyFolderOf(t)
	d := &domainKey{path: filepath.Join(dir, "rsa.pem")}
	var problems core.Problems
	d.validate(&problems, "key_file", &core.SystemUser{Name: "other", UID: os.Getuid() + 1, GID: os.Getgid() + 1})
	if len(problems) != 1 || problems[0].Severity.String() != "error" || !strings.HasPrefix(problems[0].Message, "user other, who the server becomes, cannot read ") {
		t.Errorf("%+v", problems)
	}
}

// TestKeyFileIsAbsolute: the API tells paths that mean the same everywhere.
func TestKeyFileIsAbsolute(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.close(t)
	want := write(t, "key.pem", testKeys()["rsa"].pem)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, want)
	if err != nil {
		t.Fatal(err)
	}
	r.block = fmt.Sprintf("dkim {\nselector = \"s1\"\nkey_file = %q\n}\n", relative)
	r.open(t) // its configuration has a relative name
	expect(t, "file", r.keys(t)[0].File, want)
}

// TestDeadResolver: that nobody answers is not known to be wrong, and is told apart.
func TestDeadResolver(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.made(t)
	r.rotate(t, false)
	r.names.Stop()
	report, err := r.CheckDKIM(t.Context(), "example.org")
	if err != nil || report.Wrong() || !report.Unknown() {
		t.Errorf("%+v, %v", report, err)
	}
	f := report.Keys[0].Findings[0]
	if f.Code != control.DKIMUnknown || !strings.Contains(f.Text, r.names.Addr().String()) || !strings.Contains(f.Text, "the block dns") {
		t.Errorf("%+v", f)
	}
	step := r.rotate(t, false)
	if !step.Waiting || !step.Unknown || !strings.Contains(words(step), "What the DNS has is not known: mend the resolver") {
		t.Errorf("%+v", step)
	}
}
