package blocklist

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/coretest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, broken := write("good.txt", "# from elsewhere\n192.0.2.2\n198.51.100.0/24\n"), write("broken.txt", "192.0.2.2\n192.0.2\n")
	block := func(settings string, values ...any) string {
		return "blocklist {\n" + fmt.Sprintf(settings, values...) + "\n}"
	}
	bad := []coretest.Bad{
		{Config: block(`networks = "0.0.0.0/0"`), Attribute: "networks"},
		{Config: block(`networks = ["192.0.2.0/24", "::/0"]`), Attribute: "networks"},
		{Config: block(`networks = "192.0.2.0/33"`), Attribute: "networks"},
		{Config: block(`allow = "example.org"`), Attribute: "allow"},
		{Config: block(`file = "none.txt"`), Attribute: "file"},
		{Config: block("file = %q", broken), Attribute: "file"},
		{Config: block("file = %q", dir), Attribute: "file"},
		{Config: block(`sources = ["admin", "a b"]`), Attribute: "sources"},
		{Config: block(`action = "quarantine"`), Attribute: "action", Code: "config/bad-value"},
		{Config: block(`stage = "data"`), Attribute: "stage", Code: "chain/stage"},
	}
	settings := fmt.Sprintf("networks = \"192.0.2.1\"\nfile = %q\nallow = \"192.0.2.3\"\nstage = [\"connect\", \"auth\"]\n", good)
	for _, action := range []string{"reject", "defer"} {
		coretest.TestHandler(t, coretest.HandlerSuite{
			ID: "handler.blocklist", Config: block("%saction = %q", settings, action), Bad: bad,
			Setup: func(tb testing.TB, h core.Host) {
				tb.Helper()
				service := coretest.Service[*Service](tb, h)
				for _, b := range []control.Block{
					{Network: netip.MustParsePrefix("192.0.2.3/32"), Reason: "allowed all the same"},
					{Network: netip.MustParsePrefix("192.0.2.4/32"), Reason: "sent \x1b[31m spam"},
					{Network: netip.MustParsePrefix("192.0.2.5/32"), Source: "bruteforce", Reason: "7 failures in 15m", Expires: time.Now().Add(time.Hour)},
				} {
					if err := service.AddBlock(tb.Context(), b); err != nil {
						tb.Fatal(err)
					}
				}
			},
		})
	}
}
