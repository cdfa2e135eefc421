package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/control"
)

// controlTimeout is how long commands that are being answered may go on once the
// server stops.
const controlTimeout = 5 * time.Second

// process is a server with what a process adds to it: the control socket,
// signals, and the service manager. It is the control.Process of its commands.
type process struct {
	options core.Options
	dir     string
	streams Streams
	// work runs beside the server once it serves, until ctx ends; nil means none.
	work func(ctx context.Context, ops control.Operations) error

	server *core.Server
	since  time.Time

	mu          sync.Mutex
	reloaded    time.Time // guarded by mu
	reloadError string    // guarded by mu
}

// serve starts the server, and returns when it was told to stop and has.
func (p *process) serve(ctx context.Context) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	p.server = core.NewServer(p.options)
	ds, sources, err := p.server.Start(ctx)
	config.Print(p.streams.Err, ds, sources, config.PrintOptions{Color: color(p.streams.Err)})
	switch {
	case errors.Is(err, core.ErrInvalid):
		return errInvalid
	case err != nil:
		return fmt.Errorf("start server: %w", err)
	}
	p.since = time.Now()
	warnUnused(p.options.Sockets, p.server.Listening(), p.server.Logger())
	ops := control.NewLocal(p.server, p.dir, p)
	socket, err := p.offer(ctx, ops)
	if err != nil {
		return errors.Join(err, p.server.Stop(ctx))
	}
	err = p.live(ctx, signals, ops)
	notify("STOPPING=1")
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), controlTimeout)
	defer cancel()
	return errors.Join(err, socket.Close(limit), p.stop(context.WithoutCancel(ctx), signals))
}

// offer gives the operations to those who ask from outside: at the control socket,
// and at the listeners of the API.
func (p *process) offer(ctx context.Context, ops control.Operations) (*control.Server, error) {
	service, err := core.ServiceOf[*control.Service](p.server)
	if err != nil {
		return nil, err
	}
	service.Offer(ops, p.server.Metrics())
	return control.Serve(ctx, p.dir, ops, p.server.Logger().Named("control"))
}

// live waits until the server shall stop, and does what signals ask for.
func (p *process) live(ctx context.Context, signals <-chan os.Signal, ops control.Operations) error {
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	worked := make(chan error, 1)
	if p.work != nil {
		beside.Go(func() { worked <- p.work(ctx, ops) })
	}
	beside.Go(func() { watchdog(ctx, ops, p.server.Logger()) })
	hangups := make(chan struct{}, 1)
	// It is not waited for: a reload that hangs must not keep the process alive.
	go p.reloadOnHangup(ctx, hangups)
	notify("READY=1", "STATUS=serving")
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return nil
			}
			select {
			case hangups <- struct{}{}:
			default: // a reload that is to come reads the same file
			}
		case err := <-worked:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// stop lets sessions end, and cuts them off at another signal; the one after
// that kills the process.
func (p *process) stop(ctx context.Context, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() {
		for {
			select {
			case sig := <-signals:
				if sig != syscall.SIGHUP {
					signal.Reset(syscall.SIGTERM, syscall.SIGINT)
					cancel()
				}
			case <-stopped:
				return
			}
		}
	})
	err := p.server.Stop(ctx)
	close(stopped)
	waiter.Wait()
	cancel()
	if err != nil {
		return fmt.Errorf("stop server: %w", err)
	}
	return nil
}

// reloadOnHangup reloads each time that it is asked to, until ctx ends.
func (p *process) reloadOnHangup(ctx context.Context, hangups <-chan struct{}) {
	for {
		select {
		case <-hangups:
			p.reloadOnSignal(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// reloadOnSignal has nobody to tell what is wrong but the log.
func (p *process) reloadOnSignal(ctx context.Context) {
	report, err := p.Reload(ctx)
	if report != nil {
		config.Print(p.streams.Err, report.Diagnostics, report.Sources, config.PrintOptions{Color: color(p.streams.Err)})
	}
	if err != nil {
		fmt.Fprintf(p.streams.Err, "mox-like: %v\n", err)
	}
}

// Reload swaps in the configuration file as it is now.
func (p *process) Reload(ctx context.Context) (*control.Report, error) {
	notify("RELOADING=1", monotonic())
	ds, sources, err := p.server.Reload(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reloaded, p.reloadError = time.Now(), ""
	if err == nil {
		notify("READY=1", "STATUS=serving")
		return &control.Report{Diagnostics: ds, Sources: sources}, nil
	}
	p.reloadError = err.Error()
	notify("READY=1", "STATUS=serving; the last reload was refused")
	if errors.Is(err, core.ErrInvalid) {
		errorCount, _ := ds.Count()
		p.reloadError = fmt.Sprintf("the configuration has %s, see 'mox-like validate'", count(errorCount, "error"))
		return &control.Report{Diagnostics: ds, Sources: sources}, control.ErrRefused
	}
	return nil, fmt.Errorf("reload configuration: %w; nothing has changed", err)
}

// Status tells what runs.
func (p *process) Status(context.Context) (*control.Status, error) {
	status := &control.Status{
		Running: true, DataDir: p.dir, Version: version(), ProcessID: os.Getpid(),
		Since: p.since, ConfigFile: p.options.ConfigFile,
	}
	for _, l := range p.server.Listening() {
		one := control.Listener{Name: l.Name, Kind: l.Kind}
		for _, a := range l.Addresses {
			one.Addresses = append(one.Addresses, a.String())
		}
		status.Listeners = append(status.Listeners, one)
	}
	status.Health(p.server)
	p.mu.Lock()
	defer p.mu.Unlock()
	status.Reloaded, status.ReloadError = p.reloaded, p.reloadError
	return status, nil
}

var _ control.Process = (*process)(nil)
