package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mox-like/mox-like/core/control"
)

// meets fails the test unless the mx greets an address, or does not.
func (p *process) meets(t *testing.T, address string, want bool) {
	t.Helper()
	s, err := dial(p.address(t, "mx"), address)
	if err == nil {
		err = errors.Join(s.quit())
	}
	r, refused := errors.AsType[*refusal](err)
	if err != nil && (!refused || !strings.HasPrefix(r.reply, "554 5.7.1 ")) {
		t.Fatalf("%s connects: %v", address, err)
	}
	if want == refused {
		t.Errorf("%s connects: %v", address, err)
	}
}

// TestBlocklistImport imports a list of many networks again and again, also a list
// with an error, while clients connect.
func TestBlocklistImport(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: "blocklist {\n allow = [\"127.0.20.99\"]\n }"})
	p := s.serve(t, alice)
	write := func(lines string) string {
		path := filepath.Join(t.TempDir(), "list.txt")
		if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var long strings.Builder
	long.WriteString("; a list of many networks\n")
	const networks = 50_000
	for n := range networks - 1 {
		fmt.Fprintf(&long, "10.%d.%d.0/25 # %d\n", n>>8, n&255, n)
	}
	first := write(long.String() + "127.0.20.0/24\n")
	second := write(long.String() + "127.0.21.0/24\n")

	if out := s.do(t, "blocklist", "import", "--source", "drop", "--for", "2d", first); !strings.Contains(out, fmt.Sprint(networks)) {
		t.Errorf("blocklist import prints %q", out)
	}
	p.meets(t, "127.0.20.7", false)
	p.meets(t, "127.0.20.99", true)
	p.meets(t, "127.0.21.7", true)

	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				if c, err := dial(p.addresses["mx"], "127.0.22.1"); err != nil {
					t.Errorf("while a list is imported: %v", err)
				} else if err := c.quit(); err != nil {
					t.Errorf("while a list is imported: %v", err)
				}
			}
		})
	}
	s.do(t, "blocklist", "import", "--source", "drop", second)
	all.Wait()
	p.meets(t, "127.0.20.7", true)
	p.meets(t, "127.0.21.7", false)

	bad := write("127.0.22.0/24\n\nnobody\n127.0.23.0/24\n")
	if r := run(t, s.command(t, "blocklist", "import", "--source", "drop", bad)); r.code != 2 || !strings.Contains(r.stderr, "line 3") || !strings.Contains(r.stderr, "nobody") {
		t.Errorf("a list with an error: exit status %d\n%s", r.code, r.stderr)
	}
	p.meets(t, "127.0.21.7", false)
	p.meets(t, "127.0.22.7", true)

	p.stop(t)
	s.do(t, "blocklist", "import", "--source", "other", write("127.0.24.0/24\n"))
	s.do(t, "blocklist", "import", "--source", "drop", write(""))
	p = s.start(t)
	p.meets(t, "127.0.21.7", true)
	p.meets(t, "127.0.24.7", false)
	list := lines[control.Block](t, s.do(t, "blocklist", "list", "--json"))
	if len(list) != 1 || list[0].Source != "other" {
		t.Errorf("blocklist list gives %+v", list)
	}
}

// TestBlocklistChangesAtOnce adds and removes blocks from many commands at once;
// each is in force when its command ends.
func TestBlocklistChangesAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: "blocklist {}"})
	p := s.serve(t, alice)
	for n := range 8 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			address := fmt.Sprintf("127.0.30.%d", n)
			for range 3 {
				s.do(t, "blocklist", "add", address)
				p.meets(t, address, false)
				s.do(t, "blocklist", "remove", address)
				p.meets(t, address, true)
			}
		})
	}
}
