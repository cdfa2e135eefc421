package bruteforce

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

// crowd makes many networks fail once each, and gives the bytes that one costs.
func crowd(b *testing.B, s *server, n int) float64 {
	b.Helper()
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := heap()
	at := seconds(s.clock.Now())
	for i := range n {
		network := networkOf(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32, 64)
		s.service.failures.add(network, event{account: fmt.Sprintf("user%d@example.test", i), at: at})
	}
	return (heap() - before) / float64(n)
}

func benchmarkHandle(b *testing.B, stage mail.Stage, addr string) {
	b.Helper()
	s := serve(b, options{})
	if err := s.blocks.AddBlock(b.Context(), blockOf(attacker)); err != nil {
		b.Fatal(err)
	}
	perKey := crowd(b, s, maxKeys)
	session := &mail.Session{ID: "session", RemoteAddr: netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)}
	tx := mail.NewTransaction(session.ID, session, start)
	tx.Stage, tx.Credentials = stage, &mail.Credentials{Mechanism: "PLAIN", Username: alice, Password: wrong}
	network := networkOf(netip.MustParseAddr(addr), 32, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.handler.Handle(b.Context(), tx); err != nil {
			b.Fatal(err)
		}
		s.service.finished(network)
	}
	b.ReportMetric(perKey, "B/key")
}

// The path of a client at connect while a million networks have failed.
func BenchmarkConnect(b *testing.B)        { benchmarkHandle(b, mail.StageConnect, atHome) }
func BenchmarkConnectBlocked(b *testing.B) { benchmarkHandle(b, mail.StageConnect, attacker) }

// The same for a login, before its password is checked.
func BenchmarkAuth(b *testing.B)        { benchmarkHandle(b, mail.StageAuth, atHome) }
func BenchmarkAuthBlocked(b *testing.B) { benchmarkHandle(b, mail.StageAuth, attacker) }

// BenchmarkObserve learns from a stage that ended: a connection, a login, and a
// failure from one of many networks.
func BenchmarkObserve(b *testing.B) {
	s := serve(b, options{})
	crowd(b, s, maxKeys)
	for _, bench := range []struct {
		name    string
		outcome mail.Outcome
	}{
		{"connect", mail.Outcome{Stage: mail.StageConnect}},
		{"success", mail.Outcome{Stage: mail.StageAuth}},
		{"failure", mail.Outcome{Stage: mail.StageAuth, Verdict: mail.Reject(refused, ""), Handler: "password"}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			session := &mail.Session{ID: "session"}
			tx := mail.NewTransaction(session.ID, session, start)
			tx.Credentials = &mail.Credentials{Username: alice}
			tx.Authenticate(alice)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				addr := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
				if bench.name != "failure" {
					addr = netip.MustParseAddr(atHome)
				} else {
					tx.Credentials.Username = fmt.Sprintf("user%d@example.test", i)
				}
				session.RemoteAddr = netip.AddrPortFrom(addr, 4711)
				s.handler.Observe(b.Context(), tx, bench.outcome)
			}
		})
	}
}
