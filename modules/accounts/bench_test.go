//go:build unix

package accounts

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// newBenchAccounts gives the service with real costs and one account.
func newBenchAccounts(b *testing.B) *Accounts {
	b.Helper()
	a := newAccounts(b, coretest.Options{})
	a.hasher = newHasher(owasp, runtime.GOMAXPROCS(0))
	mustAdd(b, a, alice, goodPassword)
	return a
}

// session is that of the nth client, each in a network of its own.
func session(n int) *mail.Session {
	return &mail.Session{
		ID: "session", Protocol: mail.ProtocolIMAP,
		RemoteAddr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}), 4711),
	}
}

// attack has that many guess passwords until ctx ends. stop waits for them and
// tells how many passwords were tried.
func attack(ctx context.Context, b *testing.B, a *Accounts, attackers int) (stop func() int64) {
	b.Helper()
	var wg sync.WaitGroup
	var tried atomic.Int64
	for n := range attackers {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				c := &mail.Credentials{Username: alice, Password: mail.Secret(fmt.Sprintf("guess %d of %d", i, n))}
				if answer, err := a.Verify(ctx, session(n), c); err == nil && !answer.OK {
					tried.Add(1)
				}
			}
		})
	}
	return func() int64 {
		wg.Wait()
		return tried.Load()
	}
}

// BenchmarkUnderAttack measures a login while 200 guess passwords from a network
// each: of the owner at home, of the owner in a strange network, and with an app
// password.
func BenchmarkUnderAttack(b *testing.B) {
	bench := func(clientOf func(n int) int, password func(b *testing.B, a *Accounts) mail.Secret) func(*testing.B) {
		return func(b *testing.B) {
			b.Helper()
			a := newBenchAccounts(b)
			secret := password(b, a)
			a.hasher.turns.welcome(networkOf(session(0).RemoteAddr.Addr()))
			ctx, cancel := context.WithCancel(b.Context())
			stop := attack(ctx, b, a, 200)
			n := 0
			for b.Loop() {
				n++
				a.recent = newRecent()
				answer, err := a.Verify(b.Context(), session(clientOf(n)), &mail.Credentials{Username: alice, Password: secret})
				if err != nil || !answer.OK {
					b.Fatal(answer.Reason, err)
				}
				answer.Accepted(b.Context())
			}
			cancel()
			b.ReportMetric(float64(stop())/b.Elapsed().Seconds(), "guesses/s")
		}
	}
	own := func(*testing.B, *Accounts) mail.Secret { return goodPassword }
	home := func(int) int { return 0 }
	b.Run("home", bench(home, own))
	b.Run("abroad", bench(func(n int) int { return 1000 + n }, own))
	b.Run("app password", bench(home, func(b *testing.B, a *Accounts) mail.Secret { b.Helper(); return mustAddApp(b, a, "phone", "imap") }))
}

// BenchmarkFlow measures work that keeps all processors busy, as mail does, alone
// and while 200 guess passwords. What counts where the machine is not idle are
// messages for each second of processor time that the process had.
func BenchmarkFlow(b *testing.B) {
	for _, attackers := range []int{0, 200} {
		b.Run(fmt.Sprintf("attackers=%d", attackers), func(b *testing.B) {
			a := newBenchAccounts(b)
			ctx, cancel := context.WithCancel(b.Context())
			stop := attack(ctx, b, a, attackers)
			b.ResetTimer()
			before := processorTime(b)
			b.RunParallel(func(pb *testing.PB) {
				text := slices.Repeat([]byte("Subject: flow\r\n"), 4096/15)
				for pb.Next() {
					mac(text, "one message")
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/(processorTime(b)-before).Seconds(), "msgs/cpu-s")
			cancel()
			stop()
		})
	}
}

// processorTime is what the process has had so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
