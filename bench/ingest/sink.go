package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/mox-like/mox-like/bench/proc"
)

// sink is smtp-sink, which takes every message and stores none: what remains is
// the cost of TCP and of the load itself.
type sink struct{ *process }

func startSink(ctx context.Context, dir string) (instance, error) {
	address, err := proc.FreeAddress(ctx, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	p, err := launch(ctx, filepath.Join(dir, "sink.log"), address, greets, "smtp-sink", "-u", "postfix", "-h", hostname, address, "1024")
	if err != nil {
		return nil, fmt.Errorf("run smtp-sink: %w (it is in Debian's package postfix)", err)
	}
	return &sink{p}, nil
}

func (*sink) settle(context.Context) error      { return nil }
func (*sink) stored(context.Context, int) error { return nil }
