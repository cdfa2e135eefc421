package mailbox

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// letter is a message of about size bytes, as they come from the net.
func letter(n, size int) string {
	head := crlf(fmt.Sprintf(`Received: from mail.example.org (mail.example.org [192.0.2.1])
	by mx.example.test with ESMTPS id 0123456789abcdefgh
	for <alice@example.test>; Tue, 3 Nov 2026 10:00:00 +0100
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s1;
	h=from:to:subject:date:message-id; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;
	b=%s
From: "Carol Clark" <carol@example.org>
To: Alice <alice@example.test>, Bob <bob@example.test>
Subject: Re: minutes of meeting number %d
Date: Tue, 3 Nov 2026 10:00:00 +0100
Message-ID: <%d.1234567890@example.org>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

`, strings.Repeat("abcdefgh", 30), n, n))
	line := "a line of text that is about as long as they usually are in mail\r\n"
	return head + strings.Repeat(line, max(size-len(head), 0)/len(line))
}

// fill stores n messages in the INBOX of alice, many in one transaction.
func fill(b testing.TB, s *Service, n, size int) {
	b.Helper()
	for at := 0; at < n; {
		var batch []*message
		for ; at < n && len(batch) < 500; at++ {
			raw := letter(at, size)
			m, err := s.take(func() io.Reader { return strings.NewReader(raw) }, int64(len(raw)), time.Unix(int64(1_700_000_000+at), 0))
			must(b, err)
			batch = append(batch, m)
		}
		must(b, s.store.Write(b.Context(), func(tx *store.Tx) error {
			for _, m := range batch {
				if err := s.deliver(tx, m, []Target{{alice, inbox}}); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// BenchmarkTake measures what a delivery does in its own goroutine.
func BenchmarkTake(b *testing.B) {
	s := newService(b)
	raw := letter(1, 4096)
	b.ReportAllocs()
	for b.Loop() {
		m, err := s.take(func() io.Reader { return strings.NewReader(raw) }, int64(len(raw)), received)
		must(b, err)
		m.body.Discard()
	}
}

// BenchmarkDeliverInWriter measures what a delivery does while all others wait.
func BenchmarkDeliverInWriter(b *testing.B) {
	raw := letter(1, 4096)
	for _, recipients := range []int{1, 10} {
		b.Run(fmt.Sprintf("recipients=%d", recipients), func(b *testing.B) {
			s := newService(b)
			var targets []Target
			for i := range recipients {
				targets = append(targets, Target{fmt.Sprintf("user%d@example.test", i), inbox})
			}
			deliver := func(tx *store.Tx) error {
				m, err := s.take(func() io.Reader { return strings.NewReader(raw) }, int64(len(raw)), received)
				if err != nil {
					return err
				}
				b.StartTimer()
				err = s.deliver(tx, m, targets)
				b.StopTimer()
				return err
			}
			must(b, s.store.Write(b.Context(), deliver))
			b.ReportAllocs()
			b.ResetTimer()
			b.StopTimer()
			for left := b.N; left > 0; left -= 100 {
				must(b, s.store.Write(b.Context(), func(tx *store.Tx) error {
					for range min(left, 100) {
						if err := deliver(tx); err != nil {
							return err
						}
					}
					return nil
				}))
			}
		})
	}
}

// BenchmarkDeliver measures whole deliveries, durable at their end.
func BenchmarkDeliver(b *testing.B) {
	for _, clients := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := newService(b)
			message := rendering(b, letter(1, 4096))
			var n atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						to := []Target{{Account: fmt.Sprintf("user%d@example.test", i%20)}}
						if err := s.Deliver(b.Context(), Delivery{Message: message, Received: received, Recipients: to}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// many is the number of messages in the large mailbox.
const many = 100_000

// BenchmarkLargeMailbox measures what clients do with 100,000 messages of 2.4
// KB.
func BenchmarkLargeMailbox(b *testing.B) {
	s := newService(b)
	fill(b, s, many, 2400)
	a := open(b, s, alice)
	run := func(name string, op func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must(b, op())
			}
		})
	}
	run("select", func() error {
		v, err := a.Select(b.Context(), inbox, nil)
		if err == nil {
			v.Close()
		}
		return err
	})
	run("select and load", func() error {
		v, err := a.Select(b.Context(), inbox, nil)
		if err != nil {
			return err
		}
		defer v.Close()
		return v.load(b.Context())
	})
	v, err := a.Select(b.Context(), inbox, nil)
	must(b, err)
	defer v.Close()
	benchmarkFetch(b, v, run)
	benchmarkSearch(b, v, run)
	benchmarkChanges(b, v, run)
}

func benchmarkFetch(b *testing.B, v *View, run func(string, func() error)) {
	b.Helper()
	fetch := func(name string, items Items, use func(*Message)) {
		run("fetch "+name, func() error {
			return v.Fetch(b.Context(), all, items, func(m *Message) error { use(m); return nil })
		})
	}
	fetch("flags", Items{}, func(*Message) {})
	fetch("size and date", Items{Details: true}, func(*Message) {})
	fetch("envelope", Items{Envelope: true}, func(m *Message) { m.Envelope() })
	fetch("structure", Items{BodyStructure: true}, func(m *Message) { m.BodyStructure() })
	run("fetch 1000 bodies", func() error {
		return v.Fetch(b.Context(), imap.SeqSet{{Start: 1, Stop: 1000}}, Items{Body: true}, func(m *Message) error {
			r, err := m.OpenBody(b.Context())
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, io.NewSectionReader(r, 0, r.Size()))
			return errors.Join(err, r.Close())
		})
	})
}

func benchmarkSearch(b *testing.B, v *View, run func(string, func() error)) {
	b.Helper()
	search := func(name string, found int, c imap.SearchCriteria) {
		run("search "+name, func() error {
			r, err := v.Search(b.Context(), &c)
			if err == nil && len(r.Numbers) != found {
				err = fmt.Errorf("%d messages instead of %d", len(r.Numbers), found)
			}
			return err
		})
	}
	search("unseen", many, imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}})
	search("larger", 0, imap.SearchCriteria{Larger: 100_000})
	search("subject", 111, imap.SearchCriteria{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: "number 777"}}})
	search("body", 0, imap.SearchCriteria{Body: []string{"not there"}})
}

func benchmarkChanges(b *testing.B, v *View, run func(string, func() error)) {
	b.Helper()
	ctx := b.Context()
	poll := func() error { return v.Poll(ctx, true, func(Change) error { return nil }) }
	run("poll without a change", poll)
	ops := []imap.StoreFlagsOp{imap.StoreFlagsAdd, imap.StoreFlagsDel}
	n := 0
	store := func(set imap.NumSet) error {
		n++
		_, err := v.Store(ctx, set, &imap.StoreFlags{Op: ops[n%2], Flags: []imap.Flag{imap.FlagFlagged}}, nil, nil)
		return err
	}
	run("store one", func() error { return store(imap.SeqSetNum(1)) })
	run("store all", func() error { return store(all) })
	run("copy as many as may be", func() error {
		_, err := v.Copy(ctx, imap.SeqSet{{Start: 1, Stop: maxCopy}}, "Archive")
		return err
	})
}
