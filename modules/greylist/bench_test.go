package greylist

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// BenchmarkHandle measures one recipient with a million triplets on disk.
func BenchmarkHandle(b *testing.B) {
	const million = 1_000_000
	k := newKit(b, `retry_window = "30d"`, coretest.Options{OnDisk: true})
	k.service.maxGreylisted = 2 * million
	k.fill(b, million)
	k.Add(time.Hour)
	run := func(name string, action mail.Action, next func(i int) event) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				tx := next(i).transaction(b)
				i++
				if v, err := k.greylist.Handle(context.Background(), tx); err != nil || v.Action != action {
					b.Fatalf("verdict %s (%s), %v", v.Action, v.Reason, err)
				}
			}
		})
	}
	offset := 0
	run("known", mail.ActionContinue, func(i int) event { return numbered((i*7919*2 + 1) % million) })
	run("retry", mail.ActionContinue, func(int) event { offset += 2; return numbered(offset * 7919 % million) })
	fresh := million
	run("first seen", mail.ActionDefer, func(int) event {
		fresh++
		e := numbered(fresh)
		e.from = fmt.Sprintf("eve%s@example.org", letters(fresh))
		return e
	})
}

func BenchmarkNormalSender(b *testing.B) {
	a := mail.Address{LocalPart: "list-bounces-4711-alice=example.test", Domain: "example.org"}
	b.ReportAllocs()
	for b.Loop() {
		if normalSender(a).LocalPart != "list" {
			b.Fatal("wrong form")
		}
	}
}

func BenchmarkAllowed(b *testing.B) {
	s := newAllowed()
	for i := range 10_000 {
		s.set(fmt.Sprintf("198.51.%d.%d/32", i/256%256, i%256), true)
		s.set(fmt.Sprintf("example%d.org", i), true)
	}
	addr, sender := netip.MustParseAddr("192.0.2.1"), mail.Address{LocalPart: "bob", Domain: "mail.example.net"}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.find(addr, sender); ok {
			b.Fatal("found")
		}
	}
}
