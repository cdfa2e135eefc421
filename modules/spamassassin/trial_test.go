package spamassassin

import (
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/modules/learn"
)

// TestTrialTeachesNobody finds that lessons that wait are not told because somebody
// tries a message.
func TestTrialTeachesNobody(t *testing.T) {
	coretest.Tried(t, "handler.spamassassin", block(spamd.TCP, "learn = true"), coretest.Options{}, func(h core.Host) {
		if coretest.Service[*learn.Service](t, h).Learning() {
			t.Error("the queue of lessons has a filter to tell")
		}
	})
}
