package clamav

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/mail"
)

const (
	// versionAge is how old what is known of clamd's version may be.
	versionAge     = time.Hour
	versionTimeout = 5 * time.Second
	maxVersion     = 80
)

// version knows which version one clamd has, and which signatures, such as
// "ClamAV 1.4.3/27816/Fri Nov 27 08:51:40 2026". It asks behind the messages, by one
// connection an hour, so that none waits for the answer. Handlers share it; it is
// safe for concurrent use.
type version struct {
	address backend.Address
	ctx     context.Context //nolint:containedctx // it ends what is asked when the version is closed
	cancel  context.CancelFunc
	asking  sync.WaitGroup

	mu    sync.Mutex
	text  string    // guarded by mu, "" if not known
	asked time.Time // guarded by mu
}

func newVersion(address backend.Address) *version {
	v := &version{address: address}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	return v
}

// get gives the version, "" if it is not known (yet). A nil version is not known.
func (v *version) get(now time.Time) string {
	if v == nil {
		return ""
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ctx.Err() == nil && (v.asked.IsZero() || now.Sub(v.asked) >= versionAge) {
		v.asked = now
		v.asking.Go(func() {
			// What cannot be had is left out: the scans tell what is wrong with clamd.
			text, _ := askVersion(v.ctx, v.address)
			v.mu.Lock()
			defer v.mu.Unlock()
			v.text = text
		})
	}
	return v.text
}

// Close ends a question that is under way.
func (v *version) Close() error {
	v.mu.Lock()
	v.cancel()
	v.mu.Unlock()
	v.asking.Wait()
	return nil
}

// askVersion does one VERSION command.
func askVersion(ctx context.Context, address backend.Address) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, address.Network, address.Name)
	if err != nil {
		return "", fmt.Errorf("connect to clamd at %s: %w", address, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write([]byte("zVERSION\x00")); err != nil {
		return "", fmt.Errorf("ask clamd at %s for its version: %w", address, err)
	}
	line, err := readAnswer(conn)
	if err == nil && !strings.HasPrefix(line, "ClamAV ") {
		err = fmt.Errorf("answer %.80q makes no sense", line)
	}
	if err != nil {
		return "", fmt.Errorf("ask clamd at %s for its version: %w", address, err)
	}
	return mail.Printable(line, maxVersion), nil
}
