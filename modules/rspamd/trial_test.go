package rspamd

import (
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
)

// TestTrialTeachesNobody finds that lessons that wait are not told because somebody
// tries a message.
func TestTrialTeachesNobody(t *testing.T) {
	coretest.Tried(t, "handler.rspamd", block(rspamd.TCP, "learn = true", `controller = "`+rspamd.Controller.String()+`"`), coretest.Options{}, func(h core.Host) {
		if taught := coretest.Service[*classroom](t, h).taught; len(taught) > 0 {
			t.Errorf("the queue of lessons has filters to tell: %v", taught)
		}
	})
}
