package smtp

import (
	"io"
	"net"
	"regexp"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/coretest"
)

// replyTimeout is how long a test waits for what does not come.
const replyTimeout = 20 * time.Second

var identifier = regexp.MustCompile(`\b[0-9a-hjkmnp-tv-z]{18}\b`)

// dialog plays a client, see coretest.Talk.
func (k *kit) dialog(t *testing.T, script string) {
	t.Helper()
	coretest.Talk(t, k.dial(t), script)
}

func transmit(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatalf("send %.40q: %v", text, err)
	}
}
