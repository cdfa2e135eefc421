// Package protect measures what it costs to look at a client that connects:
// bruteforce, blocklist and ratelimit one after the other, with a list of two
// million networks.
package protect

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"

	_ "github.com/mox-like/mox-like/modules/standard"
)

// networks is how many the list has.
const networks = 2_000_000

// list gives the text of a list of networks, a /28 each from 16.0.0.0 on.
func list() io.Reader {
	r, w := io.Pipe()
	go func() {
		for i := range networks {
			n := 16<<24 + i<<4
			if _, err := fmt.Fprintf(w, "%d.%d.%d.%d/28\n", n>>24, n>>16&255, n>>8&255, n&255); err != nil {
				return
			}
		}
		_ = w.Close()
	}()
	return r
}

type importer interface {
	ImportBlocks(ctx context.Context, source string, r io.Reader, expires time.Time) (int, error)
}

// BenchmarkConnect has clients of many networks connect, one in a hundred of them
// from a network of the list.
func BenchmarkConnect(b *testing.B) {
	kit := coretest.New(b, coretest.Options{})
	if n, err := coretest.Service[importer](b, kit).ImportBlocks(b.Context(), "list", list(), time.Time{}); err != nil || n != networks {
		b.Fatalf("import: %d networks, %v", n, err)
	}
	var steps []*chain.Step
	for _, source := range []string{"bruteforce {}", "blocklist {}", "ratelimit {\n key = \"ip\"\n limit = \"1000000/1h\"\n}"} {
		var name string
		if _, err := fmt.Sscan(source, &name); err != nil {
			b.Fatal(err)
		}
		handler := coretest.Load[chain.Handler](b, kit, "handler."+name, source)
		steps = append(steps, &chain.Step{
			Name: name, Position: "bench.hcl:1", Handler: handler, Stages: mail.AtConnect,
			Breaker: chain.NewBreaker(name, nil), Tally: chain.NewTally("mx", name, name, nil),
		})
	}
	c := chain.New(steps, chain.Options{})
	session := &mail.Session{ID: "session", Protocol: mail.ProtocolSMTP, Listener: "mx", Started: time.Now()}
	tx := mail.NewTransaction("session", session, time.Now())
	refused := 0
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		first := byte(100)
		if i%100 == 0 {
			first = 16
		}
		session.RemoteAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{first, byte(i >> 16), byte(i >> 8), byte(i)}), 4711)
		tx.Entries = tx.Entries[:0]
		if c.Run(b.Context(), mail.StageConnect, tx).Refused() {
			refused++
		}
	}
	if b.N > 1000 && (refused < b.N/200 || refused > b.N/50) {
		b.Errorf("%d of %d clients were refused, want one in a hundred", refused, b.N)
	}
}
