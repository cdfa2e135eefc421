package mailbox

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mox-like/mox-like/core/store"
)

// names lists mailboxes as name and attributes.
func names(t testing.TB, a *Account, o *imap.ListOptions, patterns ...string) []string {
	t.Helper()
	list, err := a.List(t.Context(), "", patterns, o)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	var lines []string
	for _, d := range list {
		line := d.Mailbox
		for _, attr := range d.Attrs {
			if attr != imap.MailboxAttrHasNoChildren {
				line += " " + string(attr)
			}
		}
		if d.ChildInfo != nil {
			line += " CHILDINFO"
		}
		lines = append(lines, line)
	}
	return lines
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestStandardMailboxes(t *testing.T) {
	t.Parallel()
	a := open(t, newService(t), alice)
	same(t, "mailboxes", []string{
		`Archive \Subscribed \Archive`, `Drafts \Subscribed \Drafts`, `INBOX \Subscribed`, `Junk \Subscribed \Junk`,
		`Sent \Subscribed \Sent`, `Trash \Subscribed \Trash`,
	}, names(t, a, &imap.ListOptions{ReturnSubscribed: true}, "*"))
}

func TestListHierarchy(t *testing.T) {
	t.Parallel()
	a := open(t, newService(t), alice)
	ctx := t.Context()
	must(t, a.Create(ctx, "work/2026/bills/", nil))
	must(t, a.Create(ctx, "worm", nil))
	must(t, a.Delete(ctx, "work/2026"))
	must(t, a.Subscribe(ctx, "work/2026/bills"))
	must(t, a.Subscribe(ctx, "lost/found"))
	tests := map[string]struct {
		options  imap.ListOptions
		patterns []string
		want     []string
	}{
		"star":                  {patterns: []string{"wo*"}, want: []string{`work \HasChildren`, `work/2026 \NonExistent \Noselect \HasChildren`, "work/2026/bills", "worm"}},
		"percent":               {patterns: []string{"w%"}, want: []string{`work \HasChildren`, "worm"}},
		"percent below":         {patterns: []string{"work/%"}, want: []string{`work/2026 \NonExistent \Noselect \HasChildren`}},
		"percent twice":         {patterns: []string{"%/%/bi%s"}, want: []string{"work/2026/bills"}},
		"inbox in small":        {patterns: []string{"inbox"}, want: []string{"INBOX"}},
		"inbox by wildcard":     {patterns: []string{"inb%"}, want: []string{"INBOX"}},
		"two patterns":          {patterns: []string{"worm", "Sent"}, want: []string{`Sent \Sent`, "worm"}},
		"nothing":               {patterns: []string{"nothing"}},
		"no pattern":            {},
		"special use":           {options: imap.ListOptions{SelectSpecialUse: true}, patterns: []string{"%"}, want: []string{`Archive \Archive`, `Drafts \Drafts`, `Junk \Junk`, `Sent \Sent`, `Trash \Trash`}},
		"subscribed":            {options: imap.ListOptions{SelectSubscribed: true}, patterns: []string{"*o*"}, want: []string{`INBOX \Subscribed`, `lost/found \NonExistent \Noselect \Subscribed`, `work/2026/bills \Subscribed`}},
		"subscribed, recursive": {options: imap.ListOptions{SelectSubscribed: true, SelectRecursiveMatch: true}, patterns: []string{"%o%"}, want: []string{`INBOX \Subscribed`, `lost \NonExistent \Noselect CHILDINFO`, `work \HasChildren CHILDINFO`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			same(t, "list", test.want, names(t, a, &test.options, test.patterns...))
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	a := open(t, newService(t), alice)
	tests := map[string]struct {
		name string
		use  []imap.MailboxAttr
		want imap.ResponseCode
	}{
		"inbox":             {name: "inbox", want: imap.ResponseCodeAlreadyExists},
		"existing":          {name: "Sent", want: imap.ResponseCodeAlreadyExists},
		"empty":             {name: "", want: imap.ResponseCodeCannot},
		"empty level":       {name: "a//b", want: imap.ResponseCodeCannot},
		"leading delimiter": {name: "/a", want: imap.ResponseCodeCannot},
		"control":           {name: "a\x01b", want: imap.ResponseCodeCannot},
		"wildcard":          {name: "a*", want: imap.ResponseCodeCannot},
		"namespace":         {name: "#news", want: imap.ResponseCodeCannot},
		"not UTF-8":         {name: "a\xff", want: imap.ResponseCodeCannot},
		"too long":          {name: strings.Repeat("x", maxNameLength+1), want: imap.ResponseCodeLimit},
		"too deep":          {name: strings.Repeat("x/", maxDepth) + "x", want: imap.ResponseCodeLimit},
		"use taken":         {name: "other", use: []imap.MailboxAttr{imap.MailboxAttrSent}, want: "USEATTR"},
		"use not offered":   {name: "other", use: []imap.MailboxAttr{imap.MailboxAttrAll}, want: "USEATTR"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := code(a.Create(t.Context(), test.name, &imap.CreateOptions{SpecialUse: test.use})); got != test.want {
				t.Errorf("create %q: code %q, want %q", test.name, got, test.want)
			}
		})
	}
}

func TestCreateLimit(t *testing.T) {
	t.Parallel()
	s := newService(t)
	a := open(t, s, alice)
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error {
		for i := range maxMailboxes - len(standardMailboxes) {
			if err := s.insertMailbox(tx, a.id, fmt.Sprint("m", i), ""); err != nil {
				return err
			}
		}
		return nil
	}))
	if got := code(a.Create(t.Context(), "one more", nil)); got != imap.ResponseCodeLimit {
		t.Errorf("create beyond the limit: code %q", got)
	}
}

func TestNamesAreNormalised(t *testing.T) {
	t.Parallel()
	a := open(t, newService(t), alice)
	must(t, a.Create(t.Context(), "cafe\u0301", nil))
	if _, err := a.Status(t.Context(), "caf\u00e9", &imap.StatusOptions{}); err != nil {
		t.Errorf("status by the composed name: %v", err)
	}
}

func TestDeleteAndRecreate(t *testing.T) {
	t.Parallel()
	a := open(t, newService(t), alice)
	ctx := t.Context()
	validity := func() uint32 {
		d, err := a.Status(ctx, "box", &imap.StatusOptions{UIDValidity: true})
		must(t, err)
		return d.UIDValidity
	}
	must(t, a.Create(ctx, "box", nil))
	first := validity()
	must(t, a.Delete(ctx, "box"))
	if got := code(a.Delete(ctx, "box")); got != imap.ResponseCodeNonExistent {
		t.Errorf("delete twice: code %q", got)
	}
	if got := code(a.Delete(ctx, "InBox")); got != imap.ResponseCodeCannot {
		t.Errorf("delete inbox: code %q", got)
	}
	must(t, a.Create(ctx, "box", nil))
	if second := validity(); second <= first {
		t.Errorf("UIDVALIDITY went from %d to %d", first, second)
	}
}

func TestRename(t *testing.T) {
	t.Parallel()
	a := open(t, newService(t), alice)
	ctx := t.Context()
	must(t, a.Create(ctx, "a/b/c", nil))
	must(t, a.Create(ctx, "z/b", nil))
	id := func(name string) string { return selectMailboxOf(t, a, name).MailboxID() }
	before := id("a/b/c")
	must(t, a.Rename(ctx, "a", "x/y"))
	same(t, "after rename", []string{`x \HasChildren`, `x/y \HasChildren`, `x/y/b \HasChildren`, "x/y/b/c"}, names(t, a, nil, "a*", "x*"))
	if after := id("x/y/b/c"); after != before {
		t.Errorf("MAILBOXID changed from %s to %s", before, after)
	}
	refused := map[[2]string]imap.ResponseCode{
		{"a", "b"}:         imap.ResponseCodeNonExistent,
		{"x/y", "z"}:       imap.ResponseCodeAlreadyExists,
		{"x", "x/new"}:     imap.ResponseCodeCannot,
		{"x", "inbox"}:     imap.ResponseCodeAlreadyExists,
		{"x/y", "n*w"}:     imap.ResponseCodeCannot,
		{"x/y/b/c", "z/b"}: imap.ResponseCodeAlreadyExists,
	}
	for names, want := range refused {
		if got := code(a.Rename(ctx, names[0], names[1])); got != want {
			t.Errorf("rename %s to %s: code %q, want %q", names[0], names[1], got, want)
		}
	}
	must(t, a.Delete(ctx, "z"))
	if got := code(a.Rename(ctx, "x/y", "z")); got != imap.ResponseCodeAlreadyExists {
		t.Errorf("rename onto a name with the same child: code %q", got)
	}
}

func TestRenameInbox(t *testing.T) {
	t.Parallel()
	s, a, v := withNotes(t, 3)
	ctx := t.Context()
	before := v.Data().UIDValidity
	must(t, a.Create(ctx, "INBOX/kept", nil))
	must(t, a.Rename(ctx, "INBOX", "INBOX/old/one"))
	<-v.Changed()
	if err := v.Poll(ctx, true, nil); !errors.Is(err, ErrGone) {
		t.Errorf("poll of what was INBOX: %v", err)
	}
	old := selectMailboxOf(t, a, "INBOX/old/one")
	same(t, "messages of the old one", []string{"1", "2", "3"}, uidsOf(t, old))
	same(t, "UIDVALIDITY of the old one", before, old.Data().UIDValidity)
	same(t, "mailboxes", []string{`INBOX \HasChildren`, "INBOX/kept", `INBOX/old \HasChildren`, "INBOX/old/one"}, names(t, a, nil, "INBOX*"))
	deliver(t, s, note(4), alice)
	fresh := selectMailboxOf(t, a, "INBOX")
	same(t, "messages of the new INBOX", []string{"1"}, uidsOf(t, fresh))
	if after := fresh.Data().UIDValidity; after <= before {
		t.Errorf("UIDVALIDITY of INBOX went from %d to %d", before, after)
	}
	same(t, "nothing new in the old one", []string(nil), poll(t, old, true))
	if got := code(a.Rename(ctx, "INBOX", "Sent")); got != imap.ResponseCodeAlreadyExists {
		t.Errorf("rename INBOX to a name that exists: code %q", got)
	}
	checkCounters(t, s)
}

func TestStatusCounters(t *testing.T) {
	t.Parallel()
	_, a, v := withNotes(t, 3)
	mark(t, v, imap.SeqSetNum(1, 2), imap.StoreFlagsAdd, imap.FlagSeen)
	mark(t, v, imap.SeqSetNum(2), imap.StoreFlagsAdd, imap.FlagDeleted)
	d, err := a.Status(t.Context(), "INBOX", &imap.StatusOptions{
		NumMessages: true, UIDNext: true, NumUnseen: true, NumDeleted: true, Size: true, DeletedStorage: true, HighestModSeq: true,
	})
	must(t, err)
	three, one, size, deletedSize := uint32(3), uint32(1), 3*int64(len(note(1))), int64(len(note(2)))
	same(t, "status", &imap.StatusData{
		Mailbox: "INBOX", NumMessages: &three, UIDNext: 4, NumUnseen: &one, NumDeleted: &one, Size: &size,
		DeletedStorage: &deletedSize, HighestModSeq: 6,
	}, d)
	u, err := a.Usage(t.Context())
	must(t, err)
	same(t, "usage", Usage{Messages: 3, Bytes: size}, u)
}

func TestRemoveAccount(t *testing.T) {
	t.Parallel()
	s := newService(t)
	deliver(t, s, note(1), alice, bob)
	a := open(t, s, alice)
	v := selectMailboxOf(t, a, "INBOX")
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error { return s.RemoveAccount(tx, alice) }))
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error { return s.RemoveAccount(tx, "nobody@example.test") }))
	if err := v.Poll(t.Context(), true, nil); !errors.Is(err, ErrGone) {
		t.Errorf("poll of a removed account: %v", err)
	}
	if _, err := a.List(t.Context(), "", []string{"*"}, nil); !errors.Is(err, ErrGone) {
		t.Errorf("list of a removed account: %v", err)
	}
	if err := a.Create(t.Context(), "new", nil); !errors.Is(err, ErrGone) {
		t.Errorf("create in a removed account: %v", err)
	}
	sweep(t, s)
	same(t, "messages left", []int64{1}, read(t, s, "SELECT count(*) FROM mailbox_messages"))
	same(t, "contents left", []int64{1}, read(t, s, "SELECT refs FROM mailbox_contents"))
	same(t, "mailboxes left", []int64{int64(len(standardMailboxes))}, read(t, s, "SELECT count(*) FROM mailbox_mailboxes"))

	// The address may be given again, and is another account then.
	deliver(t, s, note(2), alice)
	same(t, "new account", []string{"1"}, uidsOf(t, selectMailboxOf(t, open(t, s, alice), "INBOX")))
}

func TestAppend(t *testing.T) {
	t.Parallel()
	_, a, v := withNotes(t, 1)
	ctx := t.Context()
	raw := note(7)
	data, err := a.Append(ctx, "INBOX", strings.NewReader(raw), int64(len(raw)), &imap.AppendOptions{
		Flags: []imap.Flag{imap.FlagSeen, "urgent", `\Recent`}, Time: received,
	})
	must(t, err)
	same(t, "append data", &imap.AppendData{UID: 2, UIDValidity: v.Data().UIDValidity}, data)
	same(t, "changes", []string{"2 EXISTS", "FLAGS +1"}, poll(t, v, true))
	same(t, "message", []string{`2 (\Seen urgent) 2026-11-03T10:00:00+01:00 note 7`}, fetch(t, v, imap.SeqSetNum(2), Items{Envelope: true}, func(m *Message) string {
		return fmt.Sprint(m.UID, " ", flagText(m.Flags), " ", m.InternalDate.Format("2006-01-02T15:04:05-07:00"), " ", m.Envelope().Subject)
	}))

	_, err = a.Append(ctx, "nowhere", strings.NewReader(raw), int64(len(raw)), nil)
	if got := code(err); got != imap.ResponseCodeTryCreate {
		t.Errorf("append to a missing mailbox: %v", err)
	}
	_, err = a.Append(ctx, "INBOX", strings.NewReader(raw), int64(len(raw)), &imap.AppendOptions{Flags: []imap.Flag{"bad flag"}})
	if got := code(err); got != imap.ResponseCodeCannot {
		t.Errorf("append with a bad flag: %v", err)
	}
	if _, err = a.Append(ctx, "INBOX", strings.NewReader(raw), int64(len(raw)+1), nil); err == nil {
		t.Error("append of a message that ends early succeeded")
	}
	head := "X: " + strings.Repeat("x", 300<<10) + "\r\n\r\n"
	_, err = a.Append(ctx, "INBOX", strings.NewReader(head), int64(len(head)), nil)
	if got := code(err); got != imap.ResponseCodeLimit {
		t.Errorf("append with a huge header: %v", err)
	}
	same(t, "after the refused ones", []string(nil), poll(t, v, true))
}
