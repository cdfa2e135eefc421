package blocklist

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

const millions = 2_000_000

// randomList has many networks of IPv4, and a tenth of them of IPv6.
func randomList() string {
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for i := range millions {
		if i%10 == 0 {
			fmt.Fprintf(&b, "2001:db8:%x:%x::/64\n", r.IntN(1<<16), r.IntN(1<<16))
			continue
		}
		n := r.Uint32()
		fmt.Fprintf(&b, "%d.%d.%d.%d\n", n>>24, n>>16&0xff, n>>8&0xff, n&0xff)
	}
	return b.String()
}

// heap gives the bytes in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkBlocked looks up addresses among 2 million networks of a list and
// 100,000 single ones, half of them blocked.
func BenchmarkBlocked(b *testing.B) {
	s, _, _ := open(b, "", nil)
	before := heap()
	if _, err := s.ImportBlocks(b.Context(), "drop", strings.NewReader(randomList()), time.Time{}); err != nil {
		b.Fatal(err)
	}
	v := s.view.Load()
	afterImport := heap()
	r := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		n := r.Uint32()
		network := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 32)
		v.single.Insert(network, []*control.Block{{Network: network, Source: "bruteforce", Expires: time.Now().Add(time.Hour)}})
	}
	afterSingle := heap()
	var addrs [4096]netip.Addr
	for i := range addrs {
		n := r.Uint32()
		addrs[i] = netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		if i%2 == 0 {
			addrs[i] = unpack4(v.imports[0].networks.v4[r.IntN(len(v.imports[0].networks.v4))]).Addr()
		}
	}
	for i := range addrs[:len(addrs)/8] {
		addrs[i*8] = v.imports[0].networks.v6[r.IntN(len(v.imports[0].networks.v6))].prefix().Addr()
	}
	now, i := time.Now(), 0
	b.ReportAllocs()
	for b.Loop() {
		s.Blocked(addrs[i%len(addrs)], now)
		i++
	}
	b.ReportMetric(float64(afterImport-before)/float64(v.imports[0].networks.len()), "B/imported")
	b.ReportMetric(float64(afterSingle-afterImport)/100_000, "B/single")
}

// BenchmarkImport reads 2 million lines and makes them durable.
func BenchmarkImport(b *testing.B) {
	s, _, _ := open(b, b.TempDir(), nil)
	text := randomList()
	for b.Loop() {
		if _, err := s.ImportBlocks(b.Context(), "drop", strings.NewReader(text), time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStart reads 2 million networks from the database.
func BenchmarkStart(b *testing.B) {
	s, _, _ := open(b, b.TempDir(), nil)
	if _, err := s.ImportBlocks(b.Context(), "drop", strings.NewReader(randomList()), time.Time{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Start(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdd blocks one network while 2 million are, durably.
func BenchmarkAdd(b *testing.B) {
	s, _, _ := open(b, b.TempDir(), nil)
	if _, err := s.ImportBlocks(b.Context(), "drop", strings.NewReader(randomList()), time.Time{}); err != nil {
		b.Fatal(err)
	}
	n := uint32(0)
	for b.Loop() {
		n++
		network := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
		if err := s.AddBlock(b.Context(), control.Block{Network: network}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHandle(b *testing.B) {
	_, sandbox, _ := open(b, "", nil)
	h := loadHandler(b, sandbox, "blocklist {}")
	tx := transaction(mail.StageConnect, "192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Handle(b.Context(), tx); err != nil {
			b.Fatal(err)
		}
	}
}
