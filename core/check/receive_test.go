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

func (slow) Read(p []byte) (int, error) {
	<-time.After(5 * time.Second)
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
// wait for the place.
func TestSlowMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := receive(t.Context(), readAll{}, slow{})
		if took := time.Since(began); !errors.Is(err, ErrSlow) || took != MaxArrival {
			t.Errorf("after %s: %v", took, err)
		}
	})
}
