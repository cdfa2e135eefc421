package bruteforce

import (
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
)

// TestTrialIsUnknown finds that the limits of a handler that is only tried hold for
// nobody who asks why an address waits.
func TestTrialIsUnknown(t *testing.T) {
	coretest.Tried(t, "handler.bruteforce", "bruteforce {}", coretest.Options{}, func(h core.Host) {
		if n := len(coretest.Service[*Service](t, h).handlers); n != 0 {
			t.Errorf("the service knows %d handlers", n)
		}
	})
}
