package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// ledger knows every message that was tried and those that the server has
// acknowledged. It is safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	letters map[string]*letter // by Message-ID
	rand    *rand.Rand         // guarded by mu
}

// newLedger makes an empty ledger, and tells the seed of its chances.
func newLedger(t *testing.T) *ledger {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &ledger{letters: make(map[string]*letter), rand: rand.New(rand.NewPCG(seed, 0))}
}

// chance gives a number from 0 to n-1.
func (l *ledger) chance(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rand.IntN(n)
}

// letter is a message that tells itself whether it is whole.
type letter struct {
	id      string
	to      []string // each "account/mailbox"
	content []byte   // with CR LF, without dot-stuffing

	acknowledged bool // guarded by ledger.mu
	found        int  // copies, over all mailboxes
}

// letter writes a message of about size bytes to mailboxes, and notes that it is
// tried.
func (l *ledger) letter(size int, to ...string) *letter {
	l.mu.Lock()
	defer l.mu.Unlock()
	body := make([]byte, 0, size+80)
	for n := 0; len(body) < size; n++ {
		if n%7 == 3 {
			body = append(body, '.') // to be stuffed on the wire
		}
		body = fmt.Appendf(body, "%04x %016x%016x%016x%016x\r\n", n, l.rand.Uint64(), l.rand.Uint64(), l.rand.Uint64(), l.rand.Uint64())
	}
	sum := sha256.Sum256(body)
	one := &letter{id: fmt.Sprintf("<%d.%016x@example.org>", len(l.letters), l.rand.Uint64()), to: to}
	one.content = fmt.Appendf(nil, "From: <%s>\r\nTo: undisclosed-recipients:;\r\nSubject: Letter %d\r\nMessage-ID: %s\r\nX-Checksum: %s\r\n\r\n%s",
		stranger, len(l.letters), one.id, hex.EncodeToString(sum[:]), body)
	l.letters[one.id] = one
	return one
}

// recipients gives the accounts that the letter is for.
func (one *letter) recipients() []string {
	accounts := make([]string, len(one.to))
	for i, to := range one.to {
		accounts[i], _, _ = strings.Cut(to, "/")
	}
	return accounts
}

// wire gives the letter as it follows DATA, with the final dot.
func (one *letter) wire() []byte {
	stuffed := bytes.ReplaceAll(one.content, []byte("\r\n."), []byte("\r\n.."))
	return append(stuffed, ".\r\n"...)
}

// acknowledge notes that the server has taken the letter.
func (l *ledger) acknowledge(one *letter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one.acknowledged = true
}

// acknowledgements counts them.
func (l *ledger) acknowledgements() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, one := range l.letters {
		if one.acknowledged {
			n++
		}
	}
	return n
}

// post sends a new letter in a session, and notes that it was taken.
func (l *ledger) post(s *session, size int, to ...string) error {
	one := l.letter(size, to...)
	_, err := s.send(one.wire(), one.recipients()...)
	if err == nil {
		l.acknowledge(one)
	}
	return err
}

// check reads the mailboxes of all letters. Each letter that was acknowledged
// must be there once for each recipient, and whole; one that was not, for all of
// them or for none. Nothing else may be there.
func (l *ledger) check(t *testing.T, p *process) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var mailboxes []string
	for _, one := range l.letters {
		one.found = 0
		for _, to := range one.to {
			if !slices.Contains(mailboxes, to) {
				mailboxes = append(mailboxes, to)
			}
		}
	}
	copies := 0
	for _, mailbox := range mailboxes {
		copies += l.checkMailbox(t, p, mailbox)
	}
	acknowledged, silent := 0, 0
	for _, one := range l.letters {
		switch {
		case one.acknowledged:
			acknowledged++
			if one.found != len(one.to) {
				t.Errorf("%s was acknowledged for %v: %d copies are there", one.id, one.to, one.found)
			}
		case one.found == len(one.to):
			silent++
		case one.found > 0:
			t.Errorf("%s was not acknowledged for %v: %d copies are there, which is neither all nor none", one.id, one.to, one.found)
		}
	}
	t.Logf("%d messages tried, %d acknowledged, %d stored without the client having heard of it, %d copies in %d mailboxes",
		len(l.letters), acknowledged, silent, copies, len(mailboxes))
}

// checkMailbox counts what is there, and gives how much that is.
func (l *ledger) checkMailbox(t *testing.T, p *process, name string) int {
	t.Helper()
	user, mailbox, _ := strings.Cut(name, "/")
	seen := make(map[string]bool)
	list := p.read(t, user).messages(t, mailbox)
	for i, m := range list {
		id := m.field("Message-ID")
		one := l.letters[id]
		sum := sha256.Sum256([]byte(m.body()))
		switch {
		case i > 0 && list[i-1].UID == m.UID:
			t.Errorf("%s has the UID %d twice", name, m.UID)
		case one == nil || !slices.Contains(one.to, name):
			t.Errorf("%s has %q, which nobody sent there", name, id)
		case seen[id]:
			t.Errorf("%s has %s twice", name, id)
			one.found++
		case m.field("X-Checksum") != hex.EncodeToString(sum[:]):
			t.Errorf("%s has %s with another body, of %d bytes", name, id, len(m.body()))
		default:
			one.found++
		}
		seen[id] = true
	}
	return len(list)
}
