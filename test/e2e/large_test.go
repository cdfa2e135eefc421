package e2e

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/mox-like/mox-like/test/daemon"
)

// TestLargeMessages has messages of 25 MB sent all at once, by bench/large: through
// SPF, DKIM, DMARC, the attachments and a real clamd into the mailbox, and then by
// submission, where they are signed. They have 200 MB together, by each listener. What
// the server takes for them must be far less, and each message must come out of the
// mailbox as it went in.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	const messages, size, limit = "8", "25000000", 150
	daemon.Program(t, "clamd")
	daemon.Program(t, "curl")
	large := filepath.Join(t.TempDir(), "large")
	if r := run(t, exec.Command("go", "build", "-o", large, "../../bench/large")); r.code != 0 {
		t.Fatalf("build bench/large: %s", r.stderr)
	}
	cmd := exec.CommandContext(t.Context(), large, "--mox-like", binary, "--dir", t.TempDir(), "--messages", messages, "--size", size, "--scans", "4",
		"--limit", strconv.Itoa(limit))
	r := run(t, cmd)
	if r.code != 0 {
		t.Fatalf("bench/large exits with %d:\n%s%s", r.code, r.stdout, r.stderr)
	}
	for _, load := range []string{"inbound", "submission"} {
		row := regexp.MustCompile(`(?m)^\| ` + load + ` +\| (\d+) +\| (\d+) +\|`).FindStringSubmatch(r.stdout)
		if row == nil {
			t.Fatalf("there is no figure for %s:\n%s", load, r.stdout)
		}
		peak, err := strconv.Atoi(row[2])
		if err != nil || peak < 10 || peak > limit {
			t.Errorf("%s took %s MB, want at most %d, %v", load, row[2], limit, err)
		}
	}
	t.Log(r.stdout)
}
