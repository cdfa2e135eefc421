package blocklist

import (
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
)

// TestTrialIsUnknown finds that a handler that is only tried names no blocks to those
// who ask why an address is blocked.
func TestTrialIsUnknown(t *testing.T) {
	coretest.Tried(t, "handler.blocklist", `blocklist { networks = ["203.0.113.0/24"] }`, coretest.Options{}, func(h core.Host) {
		if n := len(coretest.Service[*Service](t, h).handlers); n != 0 {
			t.Errorf("the service knows %d handlers", n)
		}
	})
}
