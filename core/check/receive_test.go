package check

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mox-like/mox-like/core"
)

// slow gives a byte at a time, some seconds apart.
type slow struct{}

// pause is how long each byte takes.
const pause = 5 * time.Second

func (slow) Read(p []byte) (int, error) {
	<-time.After(pause)
	return copy(p, "x"), nil
}

// readAll is a listener that takes all that comes.
type readAll struct{}

func (readAll) Encrypts(bool) bool { return false }

func (readAll) Receive(content io.Reader) (core.Reception, error) {
	_, err := io.ReadAll(content)
	return nil, err
}

// TestSlowMessage finds that the whole of a message has to come in time, since others
// wait for the place. The read that is under way at that moment is not broken off.
func TestSlowMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := receive(t.Context(), readAll{}, slow{})
		if took := time.Since(began); !errors.Is(err, ErrSlow) || took < MaxArrival || took > MaxArrival+pause {
			t.Errorf("after %s: %v", took, err)
		}
	})
}
