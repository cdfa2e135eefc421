package coretest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

func init() { core.Register(&naughty{}) }

// naughty is a handler with faults. It stands in a test's file, where comments do
// not make it documented.
type naughty struct {
	Fault string `config:"fault"`
	Size  int    `config:"size" min:"1" default:"1"`

	store *store.Store
	seen  atomic.Bool
}

func (n *naughty) Provision(c *core.Context) error {
	n.store = c.Store()
	return nil
}

func (*naughty) Migrations() store.Migrations {
	return store.Migrations{Module: "naughty", Steps: []string{"CREATE TABLE naughty (id TEXT NOT NULL)"}}
}

func (*naughty) Module() core.Info {
	return core.Info{
		ID: "handler.naughty", Stages: mail.AtConnect | mail.AtRcpt | mail.AtData, StageAttribute: true,
		New: func() core.Module { return new(naughty) },
	}
}

func (n *naughty) Validate() core.Problems {
	var problems core.Problems
	switch n.Fault {
	case "bad":
		problems.Errorf("fault", "the fault is bad")
	case "displaced":
		problems.Errorf("", "the fault is bad, somewhere")
	}
	return problems
}

func (n *naughty) Start() error {
	if n.Fault == "leak" {
		go func() { select {} }()
	}
	return nil
}

func (n *naughty) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	switch n.Fault {
	case "error":
		return mail.Verdict{}, errors.New("backend is not there")
	case "mute":
		return mail.Reject(mail.Reply{}, ""), nil
	case "class":
		return mail.Defer(mail.NewReply(550, 7, 1, "No"), "for the test"), nil
	case "reply":
		return mail.Verdict{Reply: mail.NewReply(250, 0, 0, "OK"), Reason: "for the test"}, nil
	case "lines":
		return mail.Continue("two\nlines"), nil
	case "early":
		return mail.Quarantine("for the test"), nil
	case "session":
		tx.Session.User = "alice@example.test"
	case "target":
		if tx.Recipient != nil {
			tx.Recipient.Target = "naughty"
		}
	case "writes":
		n.store.Behind(func(row *store.Tx) error {
			_, err := row.Exec("INSERT INTO naughty (id) VALUES (?)", tx.ID)
			return err
		})
	case "remembers":
		if n.seen.Swap(true) {
			return mail.Continue("for the test, again"), nil
		}
	case "login":
		tx.Authenticate("alice@example.test")
	}
	return mail.Continue("for the test"), nil
}

// TestNaughty runs the suite on the handler with the fault in the environment. It
// is run by TestSuiteFindsFaults, and by itself has nothing to do.
func TestNaughty(t *testing.T) {
	fault, ok := os.LookupEnv("NAUGHTY")
	if !ok {
		return
	}
	block := fmt.Sprintf("naughty {\nfault = %q\n}", fault)
	bad := []coretest.Bad{{Config: "naughty {\nfault = \"bad\"\n}", Attribute: "fault", Code: "handler.naughty"}, {Config: "naughty {\nsize = 0\n}", Attribute: "size"}}
	switch fault {
	case "good":
		bad, block = append(bad, coretest.Bad{Config: block, Attribute: "fault"}), "naughty {}"
	case "displaced":
		bad, block = append(bad, coretest.Bad{Config: block, Attribute: "fault"}), "naughty {}"
	}
	coretest.TestHandler(t, coretest.HandlerSuite{ID: "handler.naughty", Config: block, Bad: bad})
}

var failed = regexp.MustCompile(`--- FAIL: TestNaughty/(\S+)`)

func TestSuiteFindsFaults(t *testing.T) {
	t.Parallel()
	const judged = "explains_itself is_safe_for_concurrent_use goes_on_while_another_instance_is_cleaned_up"
	for fault, test := range map[string]struct {
		subtests string // that fail, beside is_documented
		says     string
	}{
		"":          {"", "the setting fault has no comment"},
		"good":      {"refuses_bad_settings", "valid: naughty"},
		"displaced": {"refuses_bad_settings", "no error stands at"},
		"leak":      {"", "found unexpected goroutines"},
		"error":     {judged + " changes_nothing_in_a_trial", "at data, on trial: backend is not there"},
		"writes":    {"changes_nothing_in_a_trial", "a trial has changed the table naughty"},
		"remembers": {"changes_nothing_in_a_trial", "after a trial other things are said"},
		"mute":      {"honours_its_deadline " + judged, "it gives no reason"},
		"class":     {"honours_its_deadline " + judged, "are not of class 4"},
		"reply":     {"honours_its_deadline " + judged, "is for defer and reject"},
		"lines":     {"honours_its_deadline " + judged, "not printable"},
		"early":     {"honours_its_deadline " + judged, "there is no message yet"},
		"session":   {judged, "it changed the session"},
		"target":    {judged, "it changed who has the recipients in charge"},
		"login":     {judged, "it changed who has logged in"},
	} {
		t.Run("fault "+fault, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNaughty$", "-test.v")
			cmd.Env = append(os.Environ(), "NAUGHTY="+fault)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("the suite passes:\n%s", out)
			}
			var got []string
			for _, m := range failed.FindAllStringSubmatch(string(out), -1) {
				got = append(got, m[1])
			}
			want := append(strings.Fields(test.subtests), "is_documented")
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what fails (-want +got):\n%s\n%s", diff, out)
			}
			if !strings.Contains(string(out), test.says) {
				t.Errorf("it does not say %q:\n%s", test.says, out)
			}
		})
	}
}

// talk sends a line to a backend and reads what it says until it closes.
func talk(t *testing.T, b *coretest.Backend) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", b.Address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "PING\n"); err != nil {
		return "", err
	}
	said, err := io.ReadAll(conn)
	return string(said), err
}

func TestFaulty(t *testing.T) {
	t.Parallel()
	for _, fault := range coretest.Faults {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			b := coretest.Faulty(t, fault, "PONG")
			said, err := talk(t, b)
			timeout := errors.Is(err, os.ErrDeadlineExceeded)
			switch fault {
			case coretest.FaultRefused:
				if err == nil || timeout {
					t.Errorf("it says %q, %v", said, err)
				}
				return
			case coretest.FaultHanging, coretest.FaultLate:
				if said != "" || !timeout {
					t.Errorf("it says %q, %v", said, err)
				}
			case coretest.FaultCut:
				if said != "PO" || err != nil {
					t.Errorf("it says %q, %v", said, err)
				}
			case coretest.FaultGarbage:
				if len(said) != 1<<20 || err != nil {
					t.Errorf("it says %d bytes, %v", len(said), err)
				}
			}
			<-b.Asked()
			b.Release()
			if said, err = talk(t, b); fault == coretest.FaultLate && (said != "PONG" || err != nil) {
				t.Errorf("it says %q, %v once it is released", said, err)
			}
		})
	}
}
