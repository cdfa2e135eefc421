package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/control"
)

// heldMail has two messages in quarantine.
type heldMail struct {
	control.Quarantine
	size int64
}

var (
	heldAt    = time.Date(2026, 11, 3, 14, 5, 9, 0, time.UTC)
	heldUntil = heldAt.Add(30 * 24 * time.Hour)
	hostile   = control.Held{
		ID: "01jq3k5m7n8p9r0s2t", Received: heldAt, Expires: heldUntil, From: "\x1b]0;title\aEve of a name that does not end before the edge <eve@example.org>",
		Author: "eve@example.org", Subject: "win\tnow\u202e \x1b[2J" + strings.Repeat("ü", 60), MessageID: "<1@example.org>", ReversePath: "bounce@example.org",
		Handler: "spamassassin", Reason: "score 7.5 is over 5", Scores: []control.HeldScore{{Handler: "spamassassin", Points: 7.5}, {Handler: "dnsbl", Points: 2}},
		Listener: "mx", RemoteIP: "192.0.2.7", Size: 4096, Accounts: 120,
		For: []control.HeldFor{{Account: "alice@example.test", Recipient: "all@example.test"}, {Account: "bob@example.test", Recipient: "bob@example.test"}},
	}
	plain = control.Held{
		ID: "01jq3k5m7n8p9r0s1t", Received: heldAt, Expires: heldUntil, Author: "", ReversePath: "", Subject: "", Handler: "clamav", Reason: "Eicar", Listener: "mx", Size: 21, Accounts: 1,
		For: []control.HeldFor{{Account: "alice@example.test", Recipient: "alice@example.test"}},
	}
)

func (*heldMail) Held(_ context.Context, f control.HeldFilter, _ control.Page) ([]control.Held, string, error) {
	if f.User != "" {
		return nil, "", nil
	}
	return []control.Held{hostile, plain}, "", nil
}

func (h *heldMail) HeldContent(context.Context, string) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader("Subject: \x1b[2J\r\n\r\n")), h.size, nil
}

func (*heldMail) AllowedAuthors(context.Context, control.Page) ([]control.AllowedAuthor, string, error) {
	return []control.AllowedAuthor{
		{Scope: control.ScopeAll, Sender: "example.com", Created: heldAt},
		{Scope: "alice@example.test", Sender: "eve@example.org", Created: heldAt},
	}, "", nil
}

// TestQuarantineOutput holds what the commands print against the golden files, where
// the times are those of any time zone.
func TestQuarantineOutput(t *testing.T) {
	t.Parallel()
	ops := new(heldMail)
	show := func(h control.Held, header string) func(io.Writer) error {
		return func(w io.Writer) error { return showHeld(w, control.HeldMessage{Held: h, Header: header}) }
	}
	shown := hostile
	shown.Authenticated = "dmarc=pass"
	for name, print := range map[string]func(w io.Writer) error{
		"list": func(w io.Writer) error { return new(QuarantineOptions).list(t.Context(), ops, Streams{Out: w, Err: w}) },
		"list_json": func(w io.Writer) error {
			return (&QuarantineOptions{JSON: true}).list(t.Context(), ops, Streams{Out: w, Err: w})
		},
		"list_none": func(w io.Writer) error {
			return (&QuarantineOptions{Filter: control.HeldFilter{User: "a"}}).list(t.Context(), ops, Streams{Out: w, Err: w})
		},
		"show":       show(shown, "Received: from client.example.org\r\n\tby mx\r\nSubject: \x1b[2J\x9b\r\nX-Bad: a\rb\u202e\r\n"),
		"show_plain": show(plain, ""),
		"allowed": func(w io.Writer) error {
			return new(QuarantineOptions).allowed(t.Context(), ops, Streams{Out: w, Err: w})
		},
		"allow": func(w io.Writer) error {
			for _, by := range []string{"dmarc=pass", ""} {
				showAllowed(w, "01jq3k5m7n8p9r0s1t", control.AllowedHeld{
					Accounts: []string{"a@example.test", "b@example.test", "c@example.test", "d@example.test", "e@example.test", "f@example.test"},
					Allowed:  []control.AllowedAuthor{{Scope: "example.test", Sender: "eve@example.org"}, {Scope: "all", Sender: "example.org"}}, Authenticated: by,
				})
			}
			return nil
		},
	} {
		var b bytes.Buffer
		if err := print(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := strings.NewReplacer(moment(heldAt), "YYYY-MM-DD hh:mm:ss", moment(heldUntil), "YYYY-MM-DD HH:MM:SS").Replace(b.String())
		for _, r := range got {
			if r < ' ' && r != '\n' || r == 0x7f || r == 0x9b || r == '\u202e' {
				t.Errorf("%s: %q gets to the terminal", name, r)
			}
		}
		path := filepath.Join("testdata", "quarantine_"+name+".golden")
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
}

// manyAllowed has one sender allowed so many times.
type manyAllowed struct {
	control.Quarantine
	n int
}

func (m manyAllowed) AllowedAuthors(context.Context, control.Page) (list []control.AllowedAuthor, next string, err error) {
	for i := range m.n {
		list = append(list, control.AllowedAuthor{Scope: fmt.Sprintf("user%d@example.test", i), Sender: "eve@example.org"})
	}
	return list, "", nil
}

// TestOnlyScope: without a flag, disallow finds the only one that can be meant, and
// says how to name one of several.
func TestOnlyScope(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][]string{
		0:  {"eve@example.org is not allowed for anybody", "'mox-like quarantine allowed'"},
		2:  {"is allowed 2 times", "\n  mox-like quarantine disallow eve@example.org --user user1@example.test"},
		13: {"\nand 3 more, which 'mox-like quarantine allowed' shows"},
	} {
		_, err := onlyScope(t.Context(), manyAllowed{n: n}, "Eve@Example.org")
		for _, text := range want {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%d: %v, want %q", n, err, text)
			}
		}
	}
	if scope, err := onlyScope(t.Context(), manyAllowed{n: 1}, "Eve@Example.org"); err != nil || scope != "user0@example.test" {
		t.Errorf("%q, %v", scope, err)
	}
}

// TestHarmlessJSON: what is written does nothing to a terminal, and means the same.
func TestHarmlessJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"plain \"q\" über 中", "\u009b31m\u202e\x7f\x1b[2J", "\U000e0041 \u200b\u00a0", "\n\t", "\ufffd"} {
		var b bytes.Buffer
		if err := newJSON(&b).Encode([]string{text}); err != nil {
			t.Fatal(err)
		}
		for _, r := range b.String() {
			if !strconv.IsPrint(r) && r != '\n' {
				t.Errorf("%q: %q gets to the terminal", text, r)
			}
		}
		var back []string
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || back[0] != text {
			t.Errorf("%q reads as %q, %v", text, back, err)
		}
	}
}

func FuzzHarmlessJSON(f *testing.F) {
	f.Add("\u009b\u202e\x7f")
	f.Fuzz(func(t *testing.T, text string) {
		plain, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var want, got string
		if err := json.Unmarshal(plain, &want); err != nil {
			t.Fatal(err)
		}
		safe := escaped(plain)
		if err := json.Unmarshal(safe, &got); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
		for _, r := range string(safe) {
			if !strconv.IsPrint(r) {
				t.Errorf("%q: %q is left", text, r)
			}
		}
	})
}

// TestWriteRaw: the message is written as it is, and one that is cut off is an error.
func TestWriteRaw(t *testing.T) {
	t.Parallel()
	const raw = "Subject: \x1b[2J\r\n\r\n"
	for size, fails := range map[int64]bool{int64(len(raw)): false, int64(len(raw)) + 1: true} {
		var b bytes.Buffer
		if err := writeRaw(t.Context(), &heldMail{size: size}, &b, "id"); (err != nil) != fails || b.String() != raw {
			t.Errorf("of %d bytes: %q, %v", size, b.String(), err)
		}
	}
}

// TestQuarantineUsage: what makes no sense is refused before anything is done.
func TestQuarantineUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"list --user a@example.test --domain example.test": "--user and --domain exclude each other",
		"list --since soon":                     "--since",
		"list x":                                "takes no file",
		"show":                                  "id of a message",
		"show a b":                              "id of a message",
		"show a --raw --json":                   "[raw json]",
		"release":                               "name the ids of messages, such as 'mox-like quarantine release 1m87prhthzt40n3m8x'",
		"allow":                                 "name the ids of messages",
		"delete":                                "name the ids of messages",
		"disallow a@b.example --all --domain c": "[user domain all]",
		"realease a":                            "did you mean 'mox-like quarantine release'?",
	} {
		var out, errs bytes.Buffer
		code := Run(t.Context(), append([]string{"quarantine"}, strings.Fields(args)...), Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
		if code != exitFailed || !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("%s: exit %d, %q; want %q", args, code, errs.String(), want)
		}
	}
}
