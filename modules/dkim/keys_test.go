package dkim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core"
	_ "github.com/mox-like/mox-like/modules/headers"
)

// keyFolderOf writes keys of all kinds into a folder.
func keyFolderOf(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, f := range map[string]struct {
		content []byte
		mode    os.FileMode
	}{
		"rsa.pem":     {testKeys()["rsa"].pem, 0o600},
		"ed25519.pem": {testKeys()["ed25519"].pem, 0o400},
		"weak.pem":    {testKeys()["weak"].pem, 0o600},
		"group.pem":   {testKeys()["rsa"].pem, 0o640},
		"open.pem":    {testKeys()["rsa"].pem, 0o644},
		"broken.pem":  {[]byte("hello"), 0o600},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, f.content, f.mode); err != nil {
			tb.Fatal(err)
		}
		if err := os.Chmod(path, f.mode); err != nil { // whatever the umask is
			tb.Fatal(err)
		}
	}
	return dir
}

// told validates a file in a folder with keys, and gives what is said of it. DIR stands
// for the folder.
func told(t *testing.T, dir, text string) []string {
	t.Helper()
	ds, _ := core.Validate(core.Options{ConfigFile: filepath.Join(dir, "mox-like.hcl"), Source: []byte(text)})
	lines := []string{}
	for _, d := range ds {
		line := fmt.Sprintf("%d:%d %s[%s]: %s", d.Range.Start.Line, d.Range.Start.Column, d.Severity, d.Code, d.Summary)
		if d.Detail != "" {
			line += " | " + d.Detail
		}
		for _, r := range d.Related {
			line += fmt.Sprintf(" | %d:%d %s", r.Range.Start.Line, r.Range.Start.Column, r.Message)
		}
		lines = append(lines, strings.ReplaceAll(line, dir, "DIR"))
	}
	return lines
}

const serverHead = "server {\n  hostname = \"mx.example.org\"\n  data_dir = \"data\"\n}\ndomain \"example.org\" {\n"

func TestKeysDiagnostics(t *testing.T) {
	t.Parallel()
	dir := keyFolderOf(t)
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"managed":            {"  dkim {}\n}", nil},
		"managed, overlap":   {"  dkim {\n    overlap = \"14d\"\n  }\n}", nil},
		"keys in files":      {"  dkim \"one\" {\n    selector = \"s1\"\n    key_file = \"rsa.pem\"\n  }\n  dkim {\n    selector = \"s2\"\n    key_file = \"ed25519.pem\"\n  }\n}", nil},
		"both":               {"  dkim {}\n  dkim {\n    selector = \"s2\"\n    key_file = \"ed25519.pem\"\n  }\n}", nil},
		"a block misspelled": {"  dkmi {}\n}", []string{`6:3 error[config/unknown-block]: domain "example.org" has no block "dkmi" | Did you mean "dkim"?`}},
		"another block":      {"  something {}\n}", []string{`6:3 error[config/unknown-block]: domain "example.org" has no block "something" | Its blocks are: chain, dkim, settings.`}},
		"a handler":          {"  dkim_sign {}\n}", []string{`6:3 error[config/unknown-block]: domain "example.org" has no block "dkim_sign" | dkim_sign is a handler: it stands in a chain { … } of a listener.`}},
		"an attribute":       {"  dkim = true\n}", []string{`6:3 error[config/unknown-attribute]: domain "example.org" has no attribute "dkim" | Its attributes are "aliases" and "catch_all".`}},
		"an attribute misspelled": {"  dkim {\n    overlop = \"1d\"\n  }\n}", []string{
			`7:5 error[config/unknown-attribute]: dkim has no attribute "overlop" | Did you mean "overlap"?`,
		}},
		"at the top": {"}\ndkim {}", []string{
			`7:1 error[config/unknown-block]: the file has no block "dkim" | dkim stands in the block of a domain: write domain "example.org" { dkim { … } }.`,
		}},
		"for all domains": {"}\ndomain \"*\" {\n  dkim {}\n}", []string{
			`8:3 error[domain/template]: dkim is for one domain, not for all | Move it into the block of the domain that it is meant for.`,
		}},
		"no file":        {"  dkim {\n    selector = \"s1\"\n  }\n}", []string{`6:3 error[domain.dkim]: no file of the private key is named; 'mox-like dkim keygen DOMAIN --file FILE' makes one; or leave out both selector and key_file, and the server makes and keeps the keys itself`}},
		"no selector":    {"  dkim {\n    key_file = \"rsa.pem\"\n  }\n}", []string{`6:3 error[domain.dkim]: selector is empty; it names the key in the DNS, such as "s2026"; or leave out both selector and key_file, and the server makes and keeps the keys itself`}},
		"bad selector":   {"  dkim {\n    selector = \"s 1\"\n    key_file = \"rsa.pem\"\n  }\n}", []string{`7:16 error[domain.dkim]: "s 1" is no selector: it has letters, digits and hyphens, such as "s2026"`}},
		"selector twice": {"  dkim {\n    selector = \"s1\"\n    key_file = \"rsa.pem\"\n  }\n  dkim {\n    selector = \"S1\"\n    key_file = \"ed25519.pem\"\n  }\n}", []string{`11:16 error[domain.dkim]: the selector s1 of example.org stands here twice`}},
		"managed twice":  {"  dkim {}\n  dkim {}\n}", []string{`7:3 error[domain.dkim]: the domain has two blocks dkim without a key_file, and one holds all keys that the server manages; remove one`}},
		"overlap of a file": {"  dkim {\n    selector = \"s1\"\n    key_file = \"rsa.pem\"\n    overlap  = \"7d\"\n  }\n}", []string{
			`9:16 error[domain.dkim]: overlap is for keys that the server manages, and this one is in a file; remove it`,
		}},
		"short overlap": {"  dkim {\n    overlap = \"1m\"\n  }\n}", []string{`7:15 error[config/bad-value]: attribute "overlap" is out of range | It is at least 1h.`}},
		"none":          {"  dkim {\n    selector = \"s1\"\n    key_file = \"none.pem\"\n  }\n}", []string{`8:16 error[domain.dkim]: read key: stat DIR/none.pem: no such file or directory`}},
		"broken": {"  dkim {\n    selector = \"s1\"\n    key_file = \"broken.pem\"\n  }\n}", []string{
			`8:16 error[domain.dkim]: parse key in DIR/broken.pem: it has no private key in PEM; make one with: mox-like dkim keygen DOMAIN --file FILE`,
		}},
		"weak": {"  dkim {\n    selector = \"s1\"\n    key_file = \"weak.pem\"\n  }\n}", []string{
			`8:16 warning[domain.dkim]: the RSA key in DIR/weak.pem has 1024 bits; many receivers take it for weak: use one of 2048`,
		}},
		"readable by a group": {"  dkim {\n    selector = \"s1\"\n    key_file = \"group.pem\"\n  }\n}", []string{
			`8:16 warning[domain.dkim]: other users of this machine can get at the key DIR/group.pem (mode 0640); run: chmod 0600 DIR/group.pem`,
		}},
		"readable by all": {"  dkim {\n    selector = \"s1\"\n    key_file = \"open.pem\"\n  }\n}", []string{
			`8:16 error[domain.dkim]: every user of this machine can get at the key DIR/open.pem (mode 0644); run: chmod 0600 DIR/open.pem`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := tt.want
			if want == nil {
				want = []string{}
			}
			if diff := cmp.Diff(want, told(t, dir, serverHead+tt.text+"\n")); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKeysMissing holds that validate warns of a domain without keys where it can look.
func TestKeysMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := []string{`6:3 warning[domain.dkim]: example.org has no keys yet, and its mail is not signed; run: mox-like dkim keygen example.org`}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, told(t, dir, serverHead+"  dkim {}\n}\n")); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
	keys := filepath.Join(dir, "data", "dkim", "example.org")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(keys, "s1.pem"), testKeys()["rsa"].pem, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := told(t, dir, serverHead+"  dkim {}\n}\n"); len(got) > 0 {
		t.Errorf("with a key: %q", got)
	}
}

// TestOrder holds that what changes a message behind its signer is warned of, and in
// front of it is not.
func TestOrder(t *testing.T) {
	t.Parallel()
	dir := keyFolderOf(t)
	const (
		edits  = "    headers {\n      add = { \"X-A\" = \"b\" }\n    }\n"
		signs  = "    dkim_sign {}\n"
		seals  = "    arc_seal {\n      domain = \"example.org\"\n      selector = \"s1\"\n      file = \"rsa.pem\"\n    }\n"
		change = "changes the message behind"
	)
	for name, tt := range map[string]struct {
		chain string
		dkim  string
		want  []string
	}{
		"in front": {edits + signs, "  dkim {}\n", nil},
		"behind": {signs + edits, "  dkim {}\n", []string{
			`16:5 warning[chain/signed]: headers ` + change + ` dkim_sign, which has signed it | Move dkim_sign behind it, so that the signature holds for what leaves the server. | 15:5 it is signed here`,
		}},
		"behind a seal": {seals + edits, "  dkim {}\n", []string{
			`20:5 warning[chain/signed]: headers ` + change + ` arc_seal, which has signed it | Move arc_seal behind it, so that the signature holds for what leaves the server. | 15:5 it is signed here`,
		}},
		"two signers": {signs + seals, "  dkim {}\n", nil},
		"no keys at all": {signs, "", []string{
			`14:5 warning[handler.dkim_sign]: no domain has a block dkim, so that nothing is signed; write dkim {} into the block of each domain whose mail shall be signed`,
		}},
		"others sign for others": {"    dkim_sign {\n      users = \"any\"\n    }\n", "  dkim {}\n", []string{
			`16:15 warning[chain/order]: with users = "any" and no sender_login in front, every user can have mail signed for every domain that has a key here`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := serverHead + tt.dkim + "}\ntls \"self_signed\" {}\nlistener \"smtp\" \"submission\" {\n  address = \"127.0.0.1:0\"\n  tls     = \"implicit\"\n  auth    = \"required\"\n  chain {\n    password {}\n" + tt.chain + "    keep {}\n  }\n}\n"
			want := tt.want
			if want == nil {
				want = []string{}
			}
			if diff := cmp.Diff(want, told(t, dir, text)); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWarning holds that a start warns of a domain without keys, and that one with a key
// is quiet.
func TestWarning(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	warned := func() (lines []string) {
		t.Helper()
		watch, seen := observer.New(zap.WarnLevel)
		r.close(t)
		host, err := core.NewSandbox(t.Context(), core.SandboxOptions{
			Source: "server {\nhostname = \"mx.example.org\"\n}\ndomain \"example.org\" {\ndkim {}\n}\n", DataDir: r.dir, Logger: zap.New(watch),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := host.Close(); err != nil {
			t.Error(err)
		}
		for _, e := range seen.All() {
			lines = append(lines, fmt.Sprint(e.Message, " ", e.ContextMap()["domain"]))
		}
		r.open(t)
		return lines
	}
	want := []string{"mail of a domain is not signed: it has no DKIM key in use; run mox-like dkim keygen example.org"}
	if diff := cmp.Diff(want, warned()); diff != "" {
		t.Errorf("without keys (-want +got):\n%s", diff)
	}
	r.made(t)
	if got := warned(); len(got) > 0 {
		t.Errorf("with keys: %q", got)
	}
}

// TestUnsigned holds what the trace says where there is no key.
func TestUnsigned(t *testing.T) {
	t.Parallel()
	s := loadSign(t, "")
	verdict, err := s.Handle(t.Context(), signTransaction(t, "alice@example.test", "From: alice@example.test\r\n\r\nhi\r\n"))
	const want = "not signed: there is no key for example.test: the block of the domain has no dkim {}"
	if err != nil || verdict.Reason != want {
		t.Errorf("%q, %v; want %q", verdict.Reason, err, want)
	}
	s = loadSignIn(t, "domain \"example.org\" {\ndkim {}\n}\n", "")
	verdict, err = s.Handle(t.Context(), signTransaction(t, "alice@example.org", "From: alice@example.org\r\n\r\nhi\r\n"))
	const missing = "not signed: no key of example.org is in use; run: mox-like dkim keygen example.org"
	if err != nil || verdict.Reason != missing {
		t.Errorf("%q, %v; want %q", verdict.Reason, err, missing)
	}
}
