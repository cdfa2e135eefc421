package dkim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/dkimkey"
	"github.com/mox-like/mox-like/core/dns/dnstest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// ring is a data directory with the keys of example.org, and the DNS around it.
type ring struct {
	control.Operations
	host  *core.Sandbox
	names *dnstest.Server
	clock *coretest.Clock
	dir   string
	block string // of example.org
}

func newRing(t *testing.T) *ring {
	t.Helper()
	r := &ring{
		names: dnstest.Serve(t, ""), clock: coretest.NewClock(noon), block: "dkim {}",
		dir: filepath.Join(t.TempDir(), "data"),
	}
	r.open(t)
	return r
}

// open is a start of the server on the directory.
func (r *ring) open(t *testing.T) {
	t.Helper()
	host, err := core.NewSandbox(t.Context(), core.SandboxOptions{
		Source:  fmt.Sprintf("server {\nhostname = \"mx.example.org\"\n}\ndns {\nservers = [%q]\n}\ndomain \"example.org\" {\n%s\n}\ndomain \"example.net\" {}\n", r.names.Addr(), r.block),
		DataDir: r.dir, Now: r.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.host = host
	r.Operations = control.NewLocal(host, r.dir, nil)
	t.Cleanup(func() {
		if r.host == host {
			r.close(t)
		}
	})
}

func (r *ring) close(t *testing.T) {
	t.Helper()
	if err := r.host.Close(); err != nil {
		t.Error(err)
	}
	r.host = nil
}

func (r *ring) restart(t *testing.T) {
	t.Helper()
	r.close(t)
	r.open(t)
}

func (r *ring) handler(t *testing.T) *Sign {
	t.Helper()
	return coretest.Load[*Sign](t, r.host, "handler.dkim_sign", "dkim_sign {}")
}

// publish puts records into the DNS, and nothing else.
func (r *ring) publish(keys ...control.DKIMKey) {
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "%s. TXT %q %q\n", k.Name, k.Value[:30], k.Value[30:])
	}
	r.names.Set(b.String())
}

func (r *ring) keys(t *testing.T) []control.DKIMKey {
	t.Helper()
	keys, err := r.DKIMKeys(t.Context(), "example.org")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// states gives the selectors with their states, in order.
func (r *ring) states(t *testing.T) string {
	t.Helper()
	var list []string
	for _, k := range r.keys(t) {
		list = append(list, k.Selector+" "+k.State)
		_, err := os.Stat(filepath.Join(r.dir, "dkim", "example.org", k.Selector+".pem"))
		if exists, want := err == nil, k.State != control.DKIMRetired && k.State != control.DKIMInFile; exists != want {
			t.Errorf("%s is %s, and its file: %v", k.Selector, k.State, err)
		}
	}
	return strings.Join(list, ", ")
}

func (r *ring) rotate(t *testing.T, force bool) *control.DKIMStep {
	t.Helper()
	step, err := r.RotateDKIM(t.Context(), "Example.ORG", force)
	if err != nil {
		t.Fatal(err)
	}
	return step
}

// signs gives the selectors that sign a message, and holds that the keys fit.
func (r *ring) signs(t *testing.T, s *Sign) string {
	t.Helper()
	tx := signTransaction(t, "alice@example.org", "From: alice@example.org\r\n\r\nhi\r\n")
	if _, err := s.Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	z := make(zone)
	for _, k := range r.keys(t) {
		z[k.Name] = []string{k.Value}
	}
	var list []string
	for _, f := range verifyText(t, z, rendered(t, tx)).findings {
		if f.result != resultPass {
			t.Errorf("%s: %s, %s", f.selector, f.result, f.reason)
		}
		list = append(list, f.selector)
	}
	return strings.Join(list, " ")
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// words gives a step as text.
func words(s *control.DKIMStep) string {
	return strings.Join(s.Done, "\n") + "\n--\n" + strings.Join(s.Next, "\n") + "\n"
}

func compareWords(t *testing.T, s *control.DKIMStep, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), words(s)); diff != "" {
		t.Errorf("it says (-want +got):\n%s", diff)
	}
}

// TestLifeOfKeys goes through all states: the handler that runs signs with new keys at
// once, and mail always has a signature whose record is in the DNS.
func TestLifeOfKeys(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	s := r.handler(t)
	expect(t, "signs without keys", r.signs(t, s), "")
	first, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{})
	if err != nil {
		t.Fatal(err)
	}
	compareWords(t, first, `
Made s20261101-rsa (RSA, 2048 bits) and s20261101-ed25519 (Ed25519).
No key was in use, so the server signs mail of example.org with them from now on.
--
Publish these records now, before mail goes out: until the DNS has them, receivers cannot check the signatures and take the mail for unsigned.
Then run 'mox-like dkim check example.org', which asks the DNS.
Signatures are made by the handler dkim_sign: it belongs into the chain by which users send.
`)
	expect(t, "signs", r.signs(t, s), "s20261101-ed25519 s20261101-rsa")
	for path, mode := range map[string]os.FileMode{"dkim": 0o700 | os.ModeDir, "dkim/example.org": 0o700 | os.ModeDir, "dkim/example.org/s20261101-rsa.pem": 0o600} {
		if info, err := os.Stat(filepath.Join(r.dir, path)); err != nil || info.Mode() != mode {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	r.publish(first.Publish...)

	r.clock.Add(24 * time.Hour)
	second := r.rotate(t, false)
	compareWords(t, second, `
Made s20261102-rsa (RSA, 2048 bits) and s20261102-ed25519 (Ed25519).
--
The new keys are pending: nothing is signed with them yet. Publish these records, and leave the records of other keys as they are.
Then run 'mox-like dkim rotate example.org': it asks the DNS, and begins to sign with the new keys once the DNS shows all of them.
`)
	expect(t, "signs", r.signs(t, s), "s20261101-ed25519 s20261101-rsa")
	waiting := r.rotate(t, false)
	if !waiting.Waiting || waiting.Changed {
		t.Errorf("%+v", waiting)
	}
	compareWords(t, waiting, `

--
s20261102-rsa: the DNS has no record at s20261102-rsa._domainkey.example.org.
s20261102-ed25519: the DNS has no record at s20261102-ed25519._domainkey.example.org.
So nothing is signed with the pending keys yet. Publish what is missing, wait until the name servers have it, and run 'mox-like dkim rotate example.org' again.
`)
	// One of two is not enough, and an old answer is not taken from the cache.
	r.publish(append(first.Publish, second.Publish[0])...)
	if step := r.rotate(t, false); !step.Waiting || len(step.Next) != 2 {
		t.Errorf("with one of two records: %+v", step)
	}
	r.publish(append(first.Publish, second.Publish...)...)
	compareWords(t, r.rotate(t, false), `
The server signs mail of example.org with s20261102-rsa (RSA, 2048 bits) and s20261102-ed25519 (Ed25519) from now on: the DNS has them.
--
Leave the records of s20261101-rsa and s20261101-ed25519 in the DNS until 2026-11-09 12:01 UTC: mail that they have signed may still be on its way.
After that run 'mox-like dkim rotate example.org' once more: it deletes the old private keys.
`)
	expect(t, "signs", r.signs(t, s), "s20261102-ed25519 s20261102-rsa")
	expect(t, "states", r.states(t), "s20261101-rsa retiring, s20261101-ed25519 retiring, s20261102-rsa active, s20261102-ed25519 active")
	early := r.rotate(t, false)
	if early.Changed || early.Waiting {
		t.Errorf("in the overlap: %+v", early)
	}
	r.clock.Add(7*24*time.Hour + time.Second)
	r.restart(t)
	compareWords(t, r.rotate(t, false), `
The private keys of s20261101-rsa and s20261101-ed25519 are deleted: they are retired.
--
Remove the records of s20261101-rsa and s20261101-ed25519 from the DNS, or publish them with an empty p=, which tells everybody that the keys are revoked.
`)
	expect(t, "states", r.states(t), "s20261101-rsa retired, s20261101-ed25519 retired, s20261102-rsa active, s20261102-ed25519 active")
	expect(t, "signs after a restart", r.signs(t, r.handler(t)), "s20261102-ed25519 s20261102-rsa")
	report, err := r.CheckDKIM(t.Context(), "example.org")
	if err != nil || report.Wrong() || len(report.Keys) != 4 || report.Keys[0].Findings[0].Code != "leftover" || report.Keys[2].Findings != nil {
		t.Errorf("%+v, %v", report, err)
	}
	r.publish(second.Publish...)
	if report, err = r.CheckDKIM(t.Context(), "example.org"); err != nil || report.Wrong() || len(report.Keys) != 2 {
		t.Errorf("without the old records: %+v, %v", report, err)
	}
	r.audited(t)
}

// audited holds that the changes are in the trail, without secrets.
func (r *ring) audited(t *testing.T) {
	t.Helper()
	entries, _, err := r.Audit(t.Context(), control.ChangeFilter{Object: "example.org"}, control.Page{})
	if err != nil {
		t.Fatal(err)
	}
	var operations []string
	for _, e := range entries {
		operations = append(operations, e.Operation)
		if text := string(e.Before) + string(e.After); strings.Contains(text, "PRIVATE") || e.After == nil || e.Before == nil {
			t.Errorf("entry %+v", e)
		}
	}
	expect(t, "audit trail", strings.Join(operations, " "), strings.Repeat("rotate-dkim ", 6)+"make-dkim-keys")
}

func TestMakeKeys(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	make := func(n control.NewDKIMKeys, kind error, text string) *control.DKIMStep {
		t.Helper()
		step, err := r.MakeDKIMKeys(t.Context(), "example.org", n)
		if !errors.Is(err, kind) || kind != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: error %v, want %q", n, err, text)
		}
		return step
	}
	make(control.NewDKIMKeys{Algorithms: []string{"dsa"}}, control.ErrInvalid, `"dsa" is no algorithm`)
	make(control.NewDKIMKeys{Algorithms: []string{"ed25519", "ed25519"}}, control.ErrInvalid, "twice")
	for _, selector := range []string{"../s", "_x", "a.b", "-a", "a-"} {
		make(control.NewDKIMKeys{Selector: selector}, control.ErrInvalid, "is no selector")
	}
	make(control.NewDKIMKeys{Algorithms: []string{dkimkey.RSA2048}, Selector: "S2026"}, nil, "")
	expect(t, "states", r.states(t), "s2026 active")
	// A key of another kind beside it waits, and does not replace it.
	step := make(control.NewDKIMKeys{Algorithms: []string{dkimkey.Ed25519}, Selector: "s2026e"}, nil, "")
	expect(t, "states", r.states(t), "s2026 active, s2026e pending")
	make(control.NewDKIMKeys{Algorithms: []string{dkimkey.Ed25519}}, control.ErrExists, "s2026e of example.org is pending already: publish its record ('mox-like dkim dns example.org' prints what), and run: mox-like dkim rotate example.org")
	make(control.NewDKIMKeys{Algorithms: []string{dkimkey.RSA2048}, Selector: "s2026"}, control.ErrExists, "choose another one")
	r.publish(step.Publish...)
	r.rotate(t, false)
	expect(t, "states", r.states(t), "s2026 active, s2026e active")
	for domain, want := range map[string]struct {
		kind error
		text string
	}{
		"example.net": {control.ErrInvalid, "the server manages no keys for example.net: write dkim {} into the block domain"},
		"example.orf": {control.ErrNotFound, "did you mean example.org?"},
		"no domain":   {control.ErrInvalid, `"no domain" is no domain`},
		"other.test":  {control.ErrNotFound, `write domain "other.test" {} into the file`},
	} {
		if _, err := r.MakeDKIMKeys(t.Context(), domain, control.NewDKIMKeys{}); !errors.Is(err, want.kind) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

// TestForce holds what --force does: it asks nobody, and revokes what was just
// replaced at the next call only.
func TestForce(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.rotate(t, false)
	expect(t, "states", r.states(t), "s20261101-rsa pending, s20261101-ed25519 pending")
	r.rotate(t, true)
	expect(t, "states", r.states(t), "s20261101-rsa active, s20261101-ed25519 active")
	r.rotate(t, true)
	step := r.rotate(t, true)
	if !strings.HasSuffix(step.Done[0], "from now on: whether or not the DNS has them.") {
		t.Errorf("%+v", step)
	}
	expect(t, "states", r.states(t), "s20261101-rsa retiring, s20261101-ed25519 retiring, s20261101-2-rsa active, s20261101-2-ed25519 active")
	r.rotate(t, true)
	expect(t, "states", r.states(t), "s20261101-rsa retired, s20261101-ed25519 retired, s20261101-2-rsa active, s20261101-2-ed25519 active")
}

// TestBesideFile holds that keys that the server manages wait where one of a file
// signs.
func TestBesideFile(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.close(t)
	r.block = fmt.Sprintf("dkim {\nselector = \"own\"\nkey_file = %q\n}\n", write(t, "own.pem", testKeys()["rsa"].pem))
	r.open(t)
	if _, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{}); !errors.Is(err, control.ErrInvalid) || !strings.Contains(err.Error(), "are in files") {
		t.Errorf("error %v", err)
	}
	r.close(t)
	r.block += "dkim {\noverlap = \"1h\"\n}\n"
	r.open(t)
	if _, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{Selector: "own", Algorithms: []string{dkimkey.Ed25519}}); !errors.Is(err, control.ErrExists) {
		t.Errorf("the selector of a file: %v", err)
	}
	if _, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{Selector: "new", Algorithms: []string{dkimkey.Ed25519}}); err != nil {
		t.Fatal(err)
	}
	keys := r.keys(t)
	if len(keys) != 2 || keys[0].Selector != "own" || keys[0].State != control.DKIMInFile || keys[0].Value != testKeys()["rsa"].record || keys[1].State != control.DKIMPending {
		t.Fatalf("%+v", keys)
	}
	s := r.handler(t)
	expect(t, "signs", r.signs(t, s), "own")
	r.rotate(t, true)
	expect(t, "signs", r.signs(t, s), "new own")
}

// TestCrash holds that whatever a crash leaves between two steps is mended by the next
// call, and that nothing is lost by it.
func TestCrash(t *testing.T) {
	t.Parallel()
	keyFile := func(r *ring, selector string) string {
		return filepath.Join(r.dir, "dkim", "example.org", selector+".pem")
	}
	for name, tt := range map[string]struct {
		crash func(t *testing.T, r *ring)
		next  func(t *testing.T, r *ring)
		want  string // states after it
		signs string
		said  string // in what the next call says
	}{
		"a file without a row, before the first keys": {
			crash: func(t *testing.T, r *ring) {
				t.Helper()
				r.place(t, "s20261101-rsa", testKeys()["rsa"].pem)
			},
			next: func(t *testing.T, r *ring) {
				t.Helper()
				if _, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{}); err != nil {
					t.Error(err)
				}
			},
			want: "s20261101-rsa active, s20261101-ed25519 active", signs: "s20261101-ed25519 s20261101-rsa",
		},
		"a file without a row, of a rotation": {
			crash: func(t *testing.T, r *ring) {
				t.Helper()
				r.made(t)
				r.clock.Add(24 * time.Hour)
				r.place(t, "s20261102-rsa", testKeys()["rsa"].pem)
			},
			want: "s20261101-rsa active, s20261101-ed25519 active, s20261102-rsa pending", signs: "s20261101-ed25519 s20261101-rsa",
			said: "Took up s20261102-rsa (RSA, 2048 bits), whose file was there without being in use, as a pending key.",
		},
		"a file that is half written": {
			crash: func(t *testing.T, r *ring) {
				t.Helper()
				r.made(t)
				if err := os.WriteFile(filepath.Join(r.dir, "dkim", "example.org", dkimkey.Unfinished+"1"), []byte("---"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: "s20261101-rsa active, s20261101-ed25519 active, s20261101-2-rsa pending, s20261101-2-ed25519 pending", signs: "s20261101-ed25519 s20261101-rsa",
		},
		"a file that is no key": {
			crash: func(t *testing.T, r *ring) {
				t.Helper()
				r.made(t)
				r.place(t, "notes", []byte("hello"))
			},
			next: func(t *testing.T, r *ring) {
				t.Helper()
				if step := r.rotate(t, false); !strings.Contains(step.Done[0], "notes.pem alone, which is no key") {
					t.Errorf("%+v", step)
				}
				if _, err := os.Stat(keyFile(r, "notes")); err != nil {
					t.Error(err)
				}
			},
			want: "s20261101-rsa active, s20261101-ed25519 active, s20261101-2-rsa pending, s20261101-2-ed25519 pending", signs: "s20261101-ed25519 s20261101-rsa",
		},
		"a pending row without a file": {
			crash: func(t *testing.T, r *ring) {
				t.Helper()
				r.made(t)
				r.rotate(t, false)
				r.lose(t, keyFile(r, "s20261101-2-rsa"))
			},
			next: func(t *testing.T, r *ring) {
				t.Helper()
				if _, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{}); err != nil {
					t.Error(err)
				}
			},
			want: "s20261101-rsa active, s20261101-ed25519 active, s20261101-2-ed25519 pending, s20261101-2-rsa pending", signs: "s20261101-ed25519 s20261101-rsa",
		},
		"an active row without a file": {
			crash: func(t *testing.T, r *ring) {
				t.Helper()
				r.made(t)
				r.lose(t, keyFile(r, "s20261101-rsa"))
			},
			next: func(t *testing.T, r *ring) {
				t.Helper()
				expect(t, "signs without the file", r.signs(t, r.handler(t)), "s20261101-ed25519")
				report, err := r.CheckDKIM(t.Context(), "example.org")
				if err != nil || !report.Wrong() || report.Keys[0].Findings[1].Code != "unreadable" {
					t.Errorf("%+v, %v", report, err)
				}
				r.rotate(t, false)
				r.rotate(t, true)
				r.rotate(t, true)
			},
			want: "s20261101-rsa retired, s20261101-ed25519 retired, s20261101-2-rsa active, s20261101-2-ed25519 active", signs: "s20261101-2-ed25519 s20261101-2-rsa",
		},
		"a retired row with its file": {
			crash: func(t *testing.T, r *ring) {
				t.Helper()
				r.made(t)
				r.rotate(t, false)
				r.rotate(t, true)
				kept, err := os.ReadFile(keyFile(r, "s20261101-rsa"))
				if err != nil {
					t.Fatal(err)
				}
				r.rotate(t, true)
				r.place(t, "s20261101-rsa", kept)
			},
			want:  "s20261101-rsa retired, s20261101-ed25519 retired, s20261101-2-rsa active, s20261101-2-ed25519 active, s20261101-3-rsa pending, s20261101-3-ed25519 pending",
			signs: "s20261101-2-ed25519 s20261101-2-rsa",
		},
		"a database that is lost": {
			crash: func(t *testing.T, r *ring) {
				t.Helper()
				r.made(t)
				r.close(t)
				files, err := filepath.Glob(filepath.Join(r.dir, "*.db*"))
				if err != nil || len(files) == 0 {
					t.Fatalf("%q, %v", files, err)
				}
				for _, f := range files {
					r.lose(t, f)
				}
				r.open(t)
			},
			next: func(t *testing.T, r *ring) {
				t.Helper()
				if _, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{}); err != nil {
					t.Error(err)
				}
			},
			want: "s20261101-ed25519 active, s20261101-rsa active", signs: "s20261101-rsa s20261101-ed25519",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRing(t)
			tt.crash(t, r)
			r.restart(t)
			if tt.next != nil {
				tt.next(t, r)
			} else if step := r.rotate(t, false); tt.said != "" && !strings.Contains(words(step), tt.said) {
				t.Errorf("it says %q, want %q", words(step), tt.said)
			}
			expect(t, "states", r.states(t), tt.want)
			expect(t, "signs", r.signs(t, r.handler(t)), tt.signs)
			left, err := filepath.Glob(filepath.Join(r.dir, "dkim", "example.org", ".*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

// made makes the first keys.
func (r *ring) made(t *testing.T) {
	t.Helper()
	if _, err := r.MakeDKIMKeys(t.Context(), "example.org", control.NewDKIMKeys{}); err != nil {
		t.Fatal(err)
	}
}

// place puts a file among the keys.
func (r *ring) place(t *testing.T, selector string, content []byte) {
	t.Helper()
	dir := filepath.Join(r.dir, "dkim", "example.org")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, selector+".pem"), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *ring) lose(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestForgetKeys holds that retired keys are forgotten after a year, and others never.
func TestForgetKeys(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.made(t)
	r.rotate(t, false)
	r.rotate(t, true)
	r.rotate(t, true)
	sweep := func(now time.Time) (removed int) {
		t.Helper()
		err := r.host.Store().Write(t.Context(), func(tx *store.Tx) (err error) {
			removed, err = new(Service).Sweep(tx, now, 10)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return removed
	}
	if n := sweep(noon.Add(keepRetired - time.Second)); n != 0 {
		t.Errorf("%d are forgotten early", n)
	}
	if n := sweep(noon.Add(keepRetired)); n != 2 {
		t.Errorf("%d are forgotten, want 2", n)
	}
	expect(t, "states", r.states(t), "s20261101-2-rsa active, s20261101-2-ed25519 active")
}

// TestCompare holds what is found about a record.
func TestCompare(t *testing.T) {
	t.Parallel()
	rsa, ed := testKeys()["rsa"], testKeys()["ed25519"]
	temporary := func(z zone) zone { z["s._domainkey.example.org"] = []string{silent}; return z }(zone{})
	_, unknown := temporary.LookupTXT(t.Context(), "s._domainkey.example.org")
	_, missing := zone{}.LookupTXT(t.Context(), "s._domainkey.example.org")
	for name, tt := range map[string]struct {
		key     *testKey
		state   string
		records []string
		err     error
		code    string
		text    string // a pattern
	}{
		"good":                      {key: rsa, records: []string{rsa.record}},
		"good, written another way": {key: rsa, records: []string{"p=" + strings.TrimPrefix(rsa.record, "v=DKIM1; k=rsa; p=") + "; s=email; n=hello"}},
		"good, Ed25519":             {key: ed, records: []string{ed.record}},
		"among others":              {key: rsa, records: []string{"v=spf1 -all", rsa.record}},
		"missing":                   {key: rsa, err: missing, code: "missing", text: "the DNS has no record at s._domainkey.example.org"},
		"cannot be looked up":       {key: rsa, err: unknown, code: "unknown", text: "look up TXT of s._domainkey.example.org: .*"},
		"another key":               {key: rsa, records: []string{testKeys()["other"].record}, code: "differs", text: `the record at .* has another key \(rsa 2048 bits\) than this server \(rsa-sha256 2048 bits\)`},
		"of another kind":           {key: rsa, records: []string{ed.record}, code: "differs", text: `the record at .* has another key \(ed25519 256 bits\) than .*`},
		"revoked":                   {key: rsa, records: []string{"v=DKIM1; p="}, code: "revoked", text: "the record at .* revokes the key: its p= is empty"},
		"weak":                      {key: testKeys()["weak"], records: []string{testKeys()["weak"].record}, code: "weak", text: "the RSA key has 1024 bits, .*"},
		"testing":                   {key: rsa, records: []string{rsa.record + "; t=y"}, code: "testing", text: "the record at .* has t=y: .*"},
		"cut off":                   {key: rsa, records: []string{rsa.record[:100]}, code: "syntax", text: "the record at .* cannot be used: .*"},
		"not for mail":              {key: rsa, records: []string{rsa.record + "; s=tlsrpt"}, code: "syntax", text: "the record at .* cannot be used: the key is not for mail: s=tlsrpt"},
		"another record":            {key: rsa, records: []string{"v=spf1 -all"}, code: "syntax", text: "the record at .* cannot be used: .*"},
		"two keys":                  {key: rsa, records: []string{testKeys()["other"].record, rsa.record}, code: "several", text: "the DNS has 2 TXT records at .*, and receivers may take any of them; leave one"},
		"retired, gone":             {key: rsa, state: control.DKIMRetired, err: missing},
		"retired, unknown":          {key: rsa, state: control.DKIMRetired, err: unknown},
		"retired, revoked":          {key: rsa, state: control.DKIMRetired, records: []string{"p="}},
		"retired, still there":      {key: rsa, state: control.DKIMRetired, records: []string{rsa.record}, code: "leftover", text: "the private key is deleted, and the record at .* may be removed, or published with an empty p="},
		"pending, missing":          {key: rsa, state: control.DKIMPending, err: missing, code: "missing", text: ".*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.state == "" {
				tt.state = control.DKIMActive
			}
			k := &control.DKIMKey{Selector: "s", Name: "s._domainkey.example.org", State: tt.state, Value: tt.key.record, Algorithm: tt.key.algorithm(), Bits: tt.key.bits}
			f := compare(k, tt.records, tt.err)
			switch {
			case f == nil && tt.code == "":
			case f == nil || f.Code != tt.code || !regexp.MustCompile("^"+tt.text+"$").MatchString(f.Text):
				t.Errorf("%+v, want %s: %s", f, tt.code, tt.text)
			case f.Wrong != (tt.state == control.DKIMActive && tt.code != control.DKIMUnknown):
				t.Errorf("wrong: %v", f.Wrong)
			}
		})
	}
}

// TestSignWhileRotating has messages signed while keys change, in step with -race.
func TestSignWhileRotating(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	r.made(t)
	s := r.handler(t)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			tx := coretest.Transaction(t, mail.StageData, 1)
			tx.Session.User, tx.Message = "alice@example.org", parse(t, "From: alice@example.org\r\n\r\nhi\r\n")
			verdict, err := s.Handle(t.Context(), tx)
			if err != nil || !strings.Contains(verdict.Reason, "-rsa (") || !strings.Contains(verdict.Reason, "-ed25519 (") {
				done <- fmt.Errorf("%q, %w", verdict.Reason, err)
				return
			}
		}
	}()
	for range 6 {
		r.rotate(t, true)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
