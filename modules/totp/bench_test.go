package totp

import (
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// BenchmarkHandle measures what a login costs beside its password. A right code is
// durable before the client is in.
func BenchmarkHandle(b *testing.B) {
	c := newClock()
	k := kitOn(b, coretest.New(b, coretest.Options{Now: c.Now, OnDisk: true}), c)
	e := k.enrol(alice)
	h := k.handler("totp {}")
	bench := func(user string, credentials func() mail.Credentials, action mail.Action) func(*testing.B) {
		return func(b *testing.B) {
			b.Helper()
			b.ReportAllocs()
			for b.Loop() {
				verdict, err := h.Handle(b.Context(), transaction(user, credentials()))
				if err != nil || verdict.Action != action {
					b.Fatal(verdict, err)
				}
			}
		}
	}
	b.Run("no second factor", bench(bob, func() mail.Credentials { return mail.Credentials{} }, mail.ActionContinue))
	b.Run("app password", bench(alice, func() mail.Credentials { return mail.Credentials{AppPassword: "phone"} }, mail.ActionContinue))
	b.Run("used code", bench(alice, func() mail.Credentials { return mail.Credentials{Code: k.code(e, -1)} }, mail.ActionReject))
	b.Run("right code", bench(alice, func() mail.Credentials {
		c.add(period * time.Second)
		return mail.Credentials{Code: k.code(e, 0)}
	}, mail.ActionContinue))
}
