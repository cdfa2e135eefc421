package dkim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// others are the implementations that are asked: Debian's packages python3-dkim and
// libmail-dkim-perl. The latter does not know Ed25519 in Debian 12.
var others = map[string]struct {
	command []string
	kinds   []string
}{
	"dkimpy":     {[]string{"/usr/bin/python3", "testdata/dkimpy.py"}, []string{"rsa", "ed25519"}},
	"Mail::DKIM": {[]string{"/usr/bin/perl", "testdata/maildkim.pl"}, []string{"rsa"}},
}

// bodies are the messages that are exchanged.
var bodies = map[string]string{
	"all kinds of white space": text,
	"empty body":               "From: a@example.org\r\nSubject: x\r\n\r\n",
	"empty lines alone":        "From: a@example.org\r\nSubject: x\r\n\r\n\r\n\r\n\r\n",
	"white space alone":        "From: a@example.org\r\nSubject: x\r\n\r\n \t \r\n \r\n",
	"two of a name":            "From: a@example.org\r\nTo: one@example.test\r\nSubject: x\r\nTo: two@example.test\r\n\r\nhi\r\n",
	"bytes that are not ASCII": "From: a@example.org\r\nSubject: \xc3\xa9 \xff\r\n\r\n\xe4\r\n\xc3\xbc \r\n",
	"many lines":               "From: a@example.org\r\nSubject: x\r\n\r\n" + strings.Repeat("A line of text,  with some  white space \r\n\r\n", 3000) + "\r\n",
}

// openEnded has no line end at its end, which Mail::DKIM does not add in simple
// form, contrary to RFC 6376 section 3.4.3. So it is exchanged with dkimpy alone.
const openEnded = "From: a@example.org\r\nSubject: x\r\n\r\nhello \t there"

// messagesFor are the messages that are exchanged with one of the others.
func messagesFor(other string) map[string]string {
	all := maps.Clone(bodies)
	if other == "dkimpy" {
		all["no line end at the end"] = openEnded
	}
	return all
}

var forms = []canonicalization{simple, relaxed}

// run runs a program with a message on its standard input.
func run(t *testing.T, input string, command ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run %q: %v; it needs Debian's packages python3-dkim and libmail-dkim-perl\n%s", command, err, stderr.String())
	}
	if stderr.Len() > 0 {
		t.Logf("%q says: %s", command, stderr.String())
	}
	return string(out)
}

// zoneFile writes the zone of the keys as the scripts read it.
func zoneFile(t *testing.T) string {
	t.Helper()
	z := make(map[string]string)
	for name, texts := range keyZone() {
		z[name] = texts[0]
	}
	text, err := json.Marshal(z)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "zone.json", text)
}

// TestOthersVerify has others verify what was signed here: one message with a
// signature of each canonicalization, and the same with a changed body.
func TestOthersVerify(t *testing.T) {
	t.Parallel()
	for other, how := range others {
		for name, raw := range messagesFor(other) {
			t.Run(other+", "+name, func(t *testing.T) {
				t.Parallel()
				var list []signing
				for _, kind := range how.kinds {
					for _, header := range forms {
						for _, body := range forms {
							list = append(list, signingBy(kind, header, body))
						}
					}
				}
				text := signed(t, raw, someNames, list...)
				verify := append(slices.Clone(how.command), "verify", zoneFile(t))
				if got, want := run(t, text, verify...), strings.Repeat("pass\n", len(list)); got != want {
					t.Errorf("it says\n%s", got)
				}
				if got, want := run(t, text+"x\r\n", verify...), strings.Repeat("fail\n", len(list)); got != want {
					t.Errorf("of the changed message it says\n%s", got)
				}
			})
		}
	}
}

// TestVerifyOthers verifies what others have signed.
func TestVerifyOthers(t *testing.T) {
	t.Parallel()
	for other, how := range others {
		for name, raw := range messagesFor(other) {
			t.Run(other+", "+name, func(t *testing.T) {
				t.Parallel()
				sign := append(slices.Clone(how.command), "sign")
				for _, kind := range how.kinds {
					key := testKeys()[kind]
					file := key.pem
					if kind == kindEd25519 && other == "dkimpy" {
						file = []byte(key.seed)
					}
					sign = append(sign, kind+"="+key.algorithm()+"="+write(t, "key.pem", file))
				}
				fields := run(t, raw, sign...)
				found := verifyText(t, keyZone(), fields+raw)
				if want := 4 * len(how.kinds); len(found.findings) != want {
					t.Fatalf("%d signatures, want %d", len(found.findings), want)
				}
				for _, f := range found.findings {
					if f.result != resultPass {
						t.Errorf("%s %s/%s: %s, %s", f.algorithm, f.header, f.body, f.result, f.reason)
					}
				}
				for _, f := range verifyText(t, keyZone(), fields+raw+"x\r\n").findings {
					if f.result != resultFail || !strings.HasPrefix(f.reason, "the body was changed") {
						t.Errorf("changed, %s %s/%s: %s, %s", f.algorithm, f.header, f.body, f.result, f.reason)
					}
				}
			})
		}
	}
}

// TestOpenDKIMVerifies has Debian's opendkim verify what was signed here. Its test
// mode loses white space around values.
func TestOpenDKIMVerifies(t *testing.T) {
	t.Parallel()
	const plain = "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nSubject: one  two\r\n\r\nHello,  \t Bob.  \r\n\r\n \t\r\n\r\n"
	var list strings.Builder
	for name, texts := range keyZone() {
		list.WriteString(name + " " + texts[0] + "\n")
	}
	keys := write(t, "keys", []byte(list.String()))
	config := write(t, "opendkim.conf", []byte("Mode v\nTestPublicKeys "+keys+"\nOn-KeyNotFound reject\nOn-BadSignature reject\n"))
	for _, kind := range []string{"rsa", "ed25519"} {
		for _, header := range forms {
			for _, body := range forms {
				text := signed(t, plain, someNames, signingBy(kind, header, body))
				for end, want := range map[string]string{"": "-bit key) succeeded", "x\r\n": "failed: signature verification failed"} {
					cmd := exec.CommandContext(t.Context(), "/usr/sbin/opendkim", "-x", config, "-t", write(t, "message", []byte(text+end)), "-v", "-v")
					out, _ := cmd.CombinedOutput() // a message that is refused is an error
					if !strings.Contains(string(out), want) {
						t.Errorf("%s %s/%s: opendkim (Debian's package opendkim) says %q, want %q", kind, header, body, out, want)
					}
				}
			}
		}
	}
}

// insertedField is how opendkim's test mode shows the field that it adds.
var insertedField = regexp.MustCompile(`(?s)### INSHEADER: idx=\d+ hname='DKIM-Signature' hvalue='(.*?)'\n`)

// TestVerifyOpenDKIM verifies what Debian's opendkim has signed.
func TestVerifyOpenDKIM(t *testing.T) {
	t.Parallel()
	const plain = "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nSubject: one  two\r\n\r\nHello,  \t Bob.  \r\n\r\n \t\r\n\r\n"
	for _, kind := range []string{"rsa", "ed25519"} {
		key := testKeys()[kind]
		for _, s := range allForms() {
			t.Run(fmt.Sprintf("%s %s/%s", kind, s.header, s.body), func(t *testing.T) {
				t.Parallel()
				config := write(t, "opendkim.conf", fmt.Appendf(nil, "Mode s\nDomain example.org\nSelector %s\nKeyFile %s\nCanonicalization %s/%s\nSignatureAlgorithm %s\nRequireSafeKeys false\n",
					kind, write(t, "key.pem", key.pem), s.header, s.body, key.algorithm()))
				cmd := exec.CommandContext(t.Context(), "/usr/sbin/opendkim", "-x", config, "-t", write(t, "message", []byte(plain)), "-v", "-v")
				out, err := cmd.Output()
				added := insertedField.FindSubmatch(out)
				if err != nil || added == nil {
					t.Fatalf("opendkim (Debian's package opendkim): %v\n%s", err, out)
				}
				field := signatureField + ": " + strings.ReplaceAll(string(added[1]), "\n", "\r\n") + "\r\n"
				f := verifyText(t, keyZone(), field+plain).findings
				if len(f) != 1 || f[0].result != resultPass || f[0].algorithm != key.algorithm() || f[0].header != s.header || f[0].body != s.body {
					t.Fatalf("%s, %s of\n%s", f[0].result, f[0].reason, field)
				}
				if f := verifyText(t, keyZone(), field+plain+"x\r\n").findings[0]; f.result != resultFail || !strings.HasPrefix(f.reason, "the body was changed") {
					t.Errorf("changed: %s, %s", f.result, f.reason)
				}
				if f := verifyText(t, keyZone(), field+strings.Replace(plain, "one", "two", 1)).findings[0]; f.result != resultFail || !strings.HasPrefix(f.reason, "the signature does not fit") {
					t.Errorf("another subject: %s, %s", f.result, f.reason)
				}
			})
		}
	}
}
