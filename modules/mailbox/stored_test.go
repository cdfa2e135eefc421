package mailbox

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/store"
)

// seen is what a client sees of the messages in INBOX, three texts for each.
func seen(t *testing.T, s *Service, account string) []string {
	t.Helper()
	v := selectMailboxOf(t, open(t, s, account), "INBOX")
	var list []string
	err := v.Fetch(t.Context(), imap.SeqSet{{Start: 1}}, Items{Details: true, Envelope: true, BodyStructure: true, Body: true}, func(m *Message) error {
		body, err := m.OpenBody(t.Context())
		if err != nil {
			return err
		}
		defer func() { _ = body.Close() }()
		raw, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		list = append(list, m.Envelope().Subject, m.InternalDate.String(), string(raw))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestDeliverIn: a message that is delivered within a transaction is the same as any
// other, whether its body was there or not, and is not there if the transaction fails.
func TestDeliverIn(t *testing.T) {
	t.Parallel()
	s := newService(t)
	raw := note(1)
	deliver(t, s, raw, "carol@example.test")
	var bodyID int64
	err := s.store.Write(t.Context(), func(tx *store.Tx) error {
		body, err := s.store.PrepareBody([]byte(raw), nil, int64(len(raw)))
		if err == nil {
			bodyID, err = tx.InsertBody(body, 1)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	refs := func() (n int) {
		t.Helper()
		if err := s.store.Read(t.Context(), func(sn *store.Snapshot) error {
			return sn.QueryRow("SELECT refs FROM body WHERE id = ?", bodyID).Scan(&n)
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	prepare := map[string]func() (*Prepared, error){
		"new": func() (*Prepared, error) {
			return s.Prepare(func() io.Reader { return bytes.NewReader([]byte(raw)) }, int64(len(raw)), received)
		},
		"stored": func() (*Prepared, error) { return s.PrepareStored(t.Context(), bodyID, received) },
	}
	broken := errors.New("broken")
	targets := []Target{{Account: alice}, {Account: bob, Mailbox: "Nowhere"}, {Account: bob}, {Account: alice, Mailbox: "inbox"}}
	for i, name := range []string{"new", "stored"} {
		for _, fails := range []error{broken, nil} {
			p, err := prepare[name]()
			if err != nil {
				t.Fatal(err)
			}
			err = s.store.Write(t.Context(), func(tx *store.Tx) error { return errors.Join(s.DeliverIn(tx, p, targets), fails) })
			p.Discard()
			if !errors.Is(err, fails) {
				t.Fatalf("%s: %v, want %v", name, err, fails)
			}
			want := i // what came before
			if fails == nil {
				want++
			}
			if n := len(seen(t, s, alice)) / 3; n != want {
				t.Errorf("%s, %v: %d messages in INBOX of alice, want %d", name, fails, n, want)
			}
		}
		// Nowhere stands for INBOX, and is another target than that.
		if n := len(seen(t, s, bob)) / 3; n != 2*(i+1) {
			t.Errorf("%s: %d messages in INBOX of bob", name, n)
		}
	}
	if n := refs(); n != 2 {
		t.Errorf("the body has %d owners, want 2", n)
	}
	want := seen(t, s, "carol@example.test")
	if diff := cmp.Diff(append(want, want...), seen(t, s, alice)); diff != "" {
		t.Errorf("INBOX (-want +got):\n%s", diff)
	}
	if _, err := s.PrepareStored(t.Context(), bodyID+1, received); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a body that is not there: %v", err)
	}
}

// TestDeliverInIsTold: who has the mailbox open learns of it.
func TestDeliverInIsTold(t *testing.T) {
	t.Parallel()
	s := newService(t)
	v := selectMailboxOf(t, open(t, s, alice), "INBOX")
	raw := note(1)
	var bodyID int64
	err := s.store.Write(t.Context(), func(tx *store.Tx) error {
		body, err := s.store.PrepareBody([]byte(raw), nil, int64(len(raw)))
		if err == nil {
			bodyID, err = tx.InsertBody(body, 1)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.PrepareStored(t.Context(), bodyID, received)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Discard()
	if err := s.store.Write(t.Context(), func(tx *store.Tx) error { return s.DeliverIn(tx, p, []Target{{Account: alice}}) }); err != nil {
		t.Fatal(err)
	}
	<-v.Changed()
	if err := v.Poll(t.Context(), true, func(Change) error { return nil }); err != nil || v.NumMessages() != 1 {
		t.Errorf("%d messages, %v", v.NumMessages(), err)
	}
}
