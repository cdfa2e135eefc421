package imap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/modules/mailbox"
)

// TestFail: what a client is told about errors, and that it learns nothing of
// the inside.
func TestFail(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		err   error
		want  string
		fatal bool
	}{
		{"refused", fmt.Errorf("create: %w", no(imap.ResponseCodeAlreadyExists, "It is\nthere")), "imap: NO [ALREADYEXISTS] It is there", false},
		{"full", fmt.Errorf("write: %w", store.ErrFull), "imap: NO [UNAVAILABLE] The server has no room left; what was not done yet stays as it is, try again later", false},
		{"gone", mailbox.ErrGone, "imap: NO [NONEXISTENT] Mailbox or account was removed", true},
		{"unknown", errors.New("secret detail"), "imap: NO [UNAVAILABLE] The server could not do this, its log says why, try again later", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFence(&clientBytes{in: strings.NewReader("")}, new(Timeouts), capabilities{})
			s := &session{conn: &conn{fence: f, log: zap.NewNop(), session: new(mail.Session), ctx: context.Background()}}
			if got := s.fail(t.Context(), "CREATE", c.err); got == nil || got.Error() != c.want {
				t.Errorf("fail gives %v, want %s", got, c.want)
			}
			if (f.over != "") != c.fatal {
				t.Errorf("the session ends with %q", f.over)
			}
		})
	}
	if err := (&session{}).fail(t.Context(), "CREATE", nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}

// TestReceiveWithoutRoom: a message for which there is no room in the spools
// keeps none from others while its rest comes in.
func TestReceiveWithoutRoom(t *testing.T) {
	t.Parallel()
	const size, most = 100 << 10, 64 << 10
	budget := new(mail.SpoolBudget)
	other := mail.NewSpool(t.TempDir(), most).Within(budget, most)
	defer func() { _ = other.Close() }()
	var room error
	rest := readerFunc(func(p []byte) (int, error) {
		_, room = other.Write(make([]byte, most/2)) // all that one spool may take
		return copy(p, "\r\n"), nil
	})
	f := newFence(&clientBytes{in: io.MultiReader(strings.NewReader(strings.Repeat("x", size)), rest)}, &Timeouts{Command: time.Minute, Write: time.Minute}, capabilities{})
	f.authed, f.message = true, literal{present: true, size: size}
	s := &session{conn: &conn{fence: f, log: zap.NewNop(), session: new(mail.Session), ctx: t.Context()}}
	spool := mail.NewSpool(t.TempDir(), size).Within(budget, most)
	defer func() { _ = spool.Close() }()
	if _, err := s.receive(spool); err == nil || err.Error() != "imap: NO [UNAVAILABLE] Too many large messages at once, try again later" {
		t.Errorf("receive gives %v", err)
	}
	if room != nil {
		t.Errorf("another message while the rest comes in: %v", room)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestSavedUIDs has the cases of RFC 5182 section 2.4.
func TestSavedUIDs(t *testing.T) {
	t.Parallel()
	found := []mailbox.Number{{SeqNum: 1, UID: 3}, {SeqNum: 2, UID: 4}, {SeqNum: 4, UID: 9}}
	cases := []struct {
		name    string
		found   []mailbox.Number
		options imap.SearchOptions
		want    string
	}{
		{"all", found, imap.SearchOptions{ReturnAll: true, ReturnMin: true}, "3:4,9"},
		{"count", found, imap.SearchOptions{ReturnCount: true, ReturnMax: true}, "3:4,9"},
		{"min", found, imap.SearchOptions{ReturnMin: true}, "3"},
		{"max", found, imap.SearchOptions{ReturnMax: true}, "9"},
		{"min and max", found, imap.SearchOptions{ReturnMin: true, ReturnMax: true}, "3,9"},
		{"min and max of one", found[:1], imap.SearchOptions{ReturnMin: true, ReturnMax: true}, "3"},
		{"nothing", nil, imap.SearchOptions{ReturnMin: true}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := savedUIDs(c.found, &c.options).String(); got != c.want {
				t.Errorf("$ is %q, want %q", got, c.want)
			}
		})
	}
}

func TestCheckFlags(t *testing.T) {
	t.Parallel()
	cases := []struct {
		flags []imap.Flag
		want  []imap.Flag
		code  imap.ResponseCode
	}{
		{[]imap.Flag{imap.FlagSeen, "\\Recent", "$Label"}, []imap.Flag{imap.FlagSeen, "$Label"}, ""},
		{[]imap.Flag{imap.FlagWildcard}, nil, imap.ResponseCodeClientBug},
		{[]imap.Flag{"\\Foo"}, nil, imap.ResponseCodeClientBug},
		{[]imap.Flag{"grün"}, nil, imap.ResponseCodeClientBug},
		{[]imap.Flag{imap.Flag(strings.Repeat("x", 201))}, nil, imap.ResponseCodeLimit},
		{make([]imap.Flag, maxFlags+1), nil, imap.ResponseCodeLimit},
	}
	for _, c := range cases {
		got, err := checkFlags(c.flags)
		var code imap.ResponseCode
		if refused, ok := errors.AsType[*imap.Error](err); ok {
			code = refused.Code
		}
		if diff := cmp.Diff(c.want, got); diff != "" || code != c.code {
			t.Errorf("checkFlags(%.50q) has code %q, want %q (-want +got):\n%s", c.flags, code, c.code, diff)
		}
	}
}

func TestCountCriteria(t *testing.T) {
	t.Parallel()
	text := imap.SearchCriteria{Text: []string{"x"}}
	c := &imap.SearchCriteria{
		Body: []string{"a", "b"}, Flag: []imap.Flag{imap.FlagSeen}, Not: []imap.SearchCriteria{text},
		Or: [][2]imap.SearchCriteria{{text, {Not: []imap.SearchCriteria{text}}}},
	}
	if got := countCriteria(c); got != 9 {
		t.Errorf("counted %d, want 9", got)
	}
}
