package cli

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
)

// notify tells the service manager, if there is one, see sd_notify(3). It is a
// courtesy: a manager that does not listen is no reason to stop.
func notify(states ...string) {
	_, _ = daemon.SdNotify(false, strings.Join(states, "\n"))
}

// monotonic is the time that systemd wants with RELOADING=1.
func monotonic() string { return daemon.SdNotifyMonotonicUsec() }

// watchdog tells the service manager, twice in the time that it allows, that the
// database still writes and reads. It returns when ctx ends, at once where
// nobody asks.
func watchdog(ctx context.Context, traces control.Traces, log *zap.Logger) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Error("read watchdog's time", zap.Error(err))
	}
	if err != nil || limit == 0 {
		return
	}
	tick := time.NewTicker(limit / 2)
	defer tick.Stop()
	for {
		if err := probe(ctx, traces, limit/2); err == nil {
			notify("WATCHDOG=1")
		} else if ctx.Err() == nil {
			log.Error("database does not answer", zap.Error(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// probe has the traces that are still behind written, and one read.
func probe(ctx context.Context, traces control.Traces, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := traces.LastTraces(ctx, 1)
	return err
}

// activatedSockets gives the sockets that the service manager has bound, see
// sd_listen_fds(3), under the addresses by which a configuration may name them.
func activatedSockets() (map[string]net.Listener, error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take over sockets of the service manager: %w", err)
	}
	byAddress := make(map[string]net.Listener)
	for _, l := range listeners {
		if l == nil {
			continue // a socket of a kind that nobody here listens on
		}
		for _, address := range spellings(l.Addr()) {
			byAddress[address] = l
		}
	}
	return byAddress, nil
}

// warnUnused names the sockets that the service manager binds for nobody: their
// clients would wait for ever.
func warnUnused(given map[string]net.Listener, used []core.Listening, log *zap.Logger) {
	taken := make(map[string]bool)
	for _, l := range used {
		for _, a := range l.Addresses {
			taken[a.String()] = true
		}
	}
	for _, l := range given {
		if a := l.Addr().String(); !taken[a] {
			taken[a] = true
			log.Warn("no listener has the address of a socket of the service manager", zap.String("address", a))
		}
	}
}

// spellings lists how a configuration may write an address.
func spellings(a net.Addr) []string {
	switch a := a.(type) {
	case *net.UnixAddr:
		return []string{"unix:" + a.Name}
	case *net.TCPAddr:
		if a.IP.IsUnspecified() && a.IP.To4() == nil {
			// "[::]:25" of systemd takes IPv4 too, unless told otherwise.
			return []string{a.String(), fmt.Sprintf(":%d", a.Port)}
		}
		return []string{a.String()}
	}
	return nil
}
