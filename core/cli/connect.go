package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/store"
)

const (
	// busyTimeout is how long a command waits for a data directory that is locked
	// and whose process does not answer: a server that starts or stops, or another
	// command.
	busyTimeout = 5 * time.Second
	busyPause   = 50 * time.Millisecond
)

// operator is how a command acts on a data directory, until it is closed.
type operator struct {
	control.Operations
	io.Closer
}

// connect asks the server that runs on the configuration's data directory, or
// opens the directory itself where none does. It prints what is wrong with the
// configuration.
func (o *ConfigOptions) connect(ctx context.Context, s Streams) (*operator, error) {
	options, dir, err := o.dataDir(s)
	if err != nil {
		return nil, err
	}
	options.DropPrivileges = becomeUser(dir)
	deadline := time.Now().Add(busyTimeout)
	for {
		client, err := control.Connect(ctx, dir)
		if err == nil {
			return &operator{client, client}, nil
		}
		if !errors.Is(err, control.ErrNotRunning) {
			return nil, err
		}
		host, ds, sources, err := core.OpenOffline(ctx, options)
		switch {
		case err == nil:
			return &operator{control.NewLocal(host, dir, nil), host}, nil
		case errors.Is(err, core.ErrInvalid):
			return nil, printInvalid(s, ds, sources, err)
		case !errors.Is(err, store.ErrLocked):
			return nil, fmt.Errorf("open %s: %w", dir, err)
		case time.Now().After(deadline):
			return nil, fmt.Errorf("open %s: %w. That process does not answer at its control socket: it starts, stops or hangs", dir, err)
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// connectRunning asks the server that runs on the configuration's data directory;
// control.ErrNotRunning where none does.
func (o *ConfigOptions) connectRunning(ctx context.Context, s Streams) (client *control.Client, dir string, err error) {
	_, dir, err = o.dataDir(s)
	if err != nil {
		return nil, "", err
	}
	client, err = control.Connect(ctx, dir)
	return client, dir, err
}

// dataDir finds the data directory, and gives options to open it.
func (o *ConfigOptions) dataDir(s Streams) (core.Options, string, error) {
	options, err := o.server()
	if err != nil {
		return core.Options{}, "", err
	}
	options.Config.ReadFile = readOnce()
	dir, ds, sources, err := core.DataDir(options)
	if err != nil {
		return core.Options{}, "", printInvalid(s, ds, sources, err)
	}
	return options, dir, nil
}

// readOnce reads each file once and then gives it from memory, so that it can be
// read again after root is dropped.
func readOnce() func(name string) ([]byte, error) {
	var mu sync.Mutex
	known := make(map[string][]byte)
	return func(name string) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if content, ok := known[name]; ok {
			return content, nil
		}
		content, err := os.ReadFile(name)
		if err == nil {
			known[name] = content
		}
		return content, err
	}
}

// printInvalid prints the diagnostics of core.ErrInvalid, and passes on other
// errors.
func printInvalid(s Streams, ds config.Diagnostics, sources map[string][]byte, err error) error {
	if !errors.Is(err, core.ErrInvalid) {
		return err
	}
	config.Print(s.Err, ds, sources, config.PrintOptions{Color: color(s.Err)})
	return errInvalid
}
