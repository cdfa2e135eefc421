package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
)

// golden compares a text with a file of testdata.
func goldenDKIM(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "dkim_"+name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

var (
	dkimDay = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	dkimRSA = control.DKIMKey{
		Domain: "example.org", Selector: "s20261101-rsa", Algorithm: "rsa-sha256", Bits: 2048, State: control.DKIMActive, File: "/var/lib/mox-like/dkim/example.org/s20261101-rsa.pem",
		Created: dkimDay, Since: dkimDay, Name: "s20261101-rsa._domainkey.example.org", Value: "v=DKIM1; k=rsa; p=" + strings.Repeat("MIIBIjANBgkqhkiG9w0B", 19) + "QIDAQAB",
	}
	dkimEd25519 = control.DKIMKey{
		Domain: "example.org", Selector: "s20261101-ed25519", Algorithm: "ed25519-sha256", Bits: 256, State: control.DKIMPending,
		Created: dkimDay, Since: dkimDay, Name: "s20261101-ed25519._domainkey.example.org", Value: "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
	}
	dkimRetiring = control.DKIMKey{
		Domain: "example.org", Selector: "s2025", Algorithm: "rsa-sha256", Bits: 1024, State: control.DKIMRetiring, Since: dkimDay, Until: dkimDay.Add(7 * 24 * time.Hour),
		Name: "s2025._domainkey.example.org", Value: "v=DKIM1; k=rsa; p=MIGf",
	}
	dkimRetired = control.DKIMKey{Domain: "example.org", Selector: "s2024", Algorithm: "rsa-sha256", Bits: 2048, State: control.DKIMRetired, Since: dkimDay, Name: "s2024._domainkey.example.org", Value: "v=DKIM1; k=rsa; p=MIIB"}
	dkimFile    = control.DKIMKey{
		Domain: "example.org", Selector: "own", State: control.DKIMInFile, File: "/etc/mox-like/own.pem", Name: "own._domainkey.example.org",
		Findings: []control.DKIMFinding{{Code: "unreadable", Text: "read key: open /etc/mox-like/own.pem: permission denied", Wrong: true}},
	}
)

func with(k control.DKIMKey, findings ...control.DKIMFinding) control.DKIMKey {
	k.Findings = findings
	return k
}

// TestDKIMOutput holds what the commands print.
func TestDKIMOutput(t *testing.T) {
	t.Parallel()
	for name, print := range map[string]func(w *bytes.Buffer){
		"made": func(w *bytes.Buffer) {
			printDKIMStep(w, &control.DKIMStep{
				Domain: "example.org", Changed: true, Done: []string{"Made s20261101-rsa (RSA, 2048 bits)."}, Next: []string{"Publish this record now.", "Then check."},
				Publish: []control.DKIMKey{dkimRSA},
			})
		},
		"waiting": func(w *bytes.Buffer) {
			printDKIMStep(w, &control.DKIMStep{Domain: "example.org", Waiting: true, Next: []string{"s20261101-ed25519: the DNS has \x1b[31mno record."}, Publish: []control.DKIMKey{dkimEd25519}})
		},
		"retired": func(w *bytes.Buffer) {
			printDKIMStep(w, &control.DKIMStep{Domain: "example.org", Changed: true, Done: []string{"The private key of s2024 is deleted: it is retired."}, Next: []string{"Remove the record."}, Remove: []control.DKIMKey{dkimRetired}})
		},
		"dns": func(w *bytes.Buffer) {
			printDKIMZone(w, "example.org", []control.DKIMKey{dkimFile, dkimRSA, dkimEd25519, dkimRetiring, dkimRetired}, false)
		},
		"dns_form": func(w *bytes.Buffer) {
			printDKIMZone(w, "example.org", []control.DKIMKey{dkimRSA, dkimEd25519}, true)
		},
		"dns_none": func(w *bytes.Buffer) { printDKIMZone(w, "example.org", nil, false) },
		"file": func(w *bytes.Buffer) {
			k := dkimRSA
			k.State, k.File = control.DKIMInFile, "/etc/mox-like/my key.pem"
			printDKIMKeyFile(w, k, true)
		},
		"check": func(w *bytes.Buffer) {
			printDKIMReport(w, &control.DKIMReport{Domain: "example.org", Keys: []control.DKIMKey{
				dkimFile,
				with(dkimRSA, control.DKIMFinding{Code: "differs", Text: "the record has another key", Wrong: true}, control.DKIMFinding{Code: "unreadable", Text: "read key: no such file", Wrong: true}),
				with(dkimEd25519, control.DKIMFinding{Code: "missing", Text: "the DNS has no record at s20261101-ed25519._domainkey.example.org"}),
				with(dkimRetiring, control.DKIMFinding{Code: control.DKIMUnknown, Text: "look up TXT s2025._domainkey.example.org: connection refused"}),
				with(dkimRetired, control.DKIMFinding{Code: "leftover", Text: "the record may be removed"}),
			}})
		},
		"check_none": func(w *bytes.Buffer) {
			printDKIMReport(w, &control.DKIMReport{Domain: "example.net", Findings: []control.DKIMFinding{{Code: "unsigned", Text: "no key of example.net is in use", Wrong: true}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w bytes.Buffer
			print(&w)
			goldenDKIM(t, name, w.String())
		})
	}
}

// TestDKIMKeyFile makes a key without any configuration.
func TestDKIMKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	run := func(args ...string) (code int, out, err string) {
		var stdout, stderr bytes.Buffer
		code = Run(t.Context(), append([]string{"dkim", "keygen"}, args...), Streams{Out: &stdout, Err: &stderr})
		return code, stdout.String(), stderr.String()
	}
	code, out, errors := run("bücher.example", "--file", path, "--algorithm", "ed25519", "--selector", "s2026")
	if code != 0 || !strings.Contains(out, "\ns2026._domainkey.xn--bcher-kva.example. IN TXT (\n    \"v=DKIM1; k=ed25519; p=") || !strings.Contains(out, "    key_file = \""+path+"\"\n") {
		t.Fatalf("status %d\n%s\n%s", code, out, errors)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	before, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(before, []byte("-----BEGIN PRIVATE KEY-----")) {
		t.Errorf("%q, %v", before, err)
	}
	for want, args := range map[string][]string{
		"is there already":       {"example.org", "--file", path},
		"a file has one key":     {"example.org", "--file", path + "2", "--algorithm", "both"},
		"is no selector":         {"example.org", "--file", path + "2", "--selector", "../s"},
		`"a b" is no domain`:     {"a b", "--file", path + "2"},
		"name the domain":        {"--file", path + "2"},
		"--algorithm is rsa2048": {"example.org", "--algorithm", "dsa"},
	} {
		if code, _, said := run(args...); code != exitFailed || !strings.Contains(said, want) {
			t.Errorf("%q: status %d, %s", args, code, said)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key was replaced: %v", err)
	}
	if _, err := os.Stat(path + "2"); err == nil {
		t.Error("a key was written all the same")
	}
}
