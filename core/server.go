package core

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/store"
)

// Options say which configuration a server runs, and replace what tests replace.
type Options struct {
	// ConfigFile is the path of the file; Source is its text where it is not to be
	// read from there.
	ConfigFile string
	Source     []byte
	// Config says where variables come from.
	Config config.Options
	// DataDir replaces the server block's data_dir.
	DataDir string
	// Registry holds the modules; nil means DefaultRegistry.
	Registry *Registry
	// Logger replaces the one that the log block asks for.
	Logger *zap.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Sockets are those that the service manager bound, by address.
	Sockets map[string]net.Listener
	// DropPrivileges is called with the server block's user once the sockets are
	// bound and before anything else is opened, also by OpenOffline, so that what
	// it creates belongs to that user; nil leaves the process as it is.
	DropPrivileges func(user string) error
}

func (o *Options) load() (*config.File, config.Diagnostics) {
	if o.Source != nil {
		return config.Parse(o.ConfigFile, o.Source, o.Config)
	}
	return config.Load(o.ConfigFile, o.Config)
}

func (o *Options) registry() *Registry {
	if o.Registry == nil {
		return DefaultRegistry
	}
	return o.Registry
}

func (o *Options) now() func() time.Time {
	if o.Now == nil {
		return time.Now
	}
	return o.Now
}

// Server is a running server: a runtime, the generation that is in force, and
// the sockets. Its methods are safe for concurrent use.
type Server struct {
	options Options

	mu      sync.Mutex
	runtime *runtime
	current *running
	sockets map[string]*socket
	retired sync.WaitGroup // generations that drain after a reload
	stopped chan struct{}
	log     *zap.Logger
}

// running is a generation that serves.
type running struct {
	*generation
	leases []*lease
	serve  sync.WaitGroup
	cancel context.CancelFunc
}

// NewServer makes a server that is not started.
func NewServer(o Options) *Server {
	return &Server{options: o, sockets: make(map[string]*socket), stopped: make(chan struct{})}
}

// Validate says everything that is wrong with a configuration. It runs the whole
// of Provision and Validate with a store in memory, and touches nothing. The
// second result holds the texts that the diagnostics point into.
func Validate(o Options) (config.Diagnostics, map[string][]byte) {
	_, ds, sources := check(&o)
	return ds, sources
}

func check(o *Options) (*settings, config.Diagnostics, map[string][]byte) {
	s, ds, sources := o.settings()
	if s != nil {
		ds.Append(dryRun(o, s))
	}
	ds = ds.Unique()
	return s, ds, sources
}

// dryRun builds a generation on a store in memory and throws it away.
func dryRun(o *Options, s *settings) config.Diagnostics {
	var ds config.Diagnostics
	st, err := store.OpenMemory(store.Options{Now: o.now()})
	if err != nil {
		ds.Errorf(s.file.Root.DefRange, "store/memory", "%v", err)
		return ds
	}
	r, err := newRuntime(o.registry(), st, s, zap.NewNop(), o.now())
	if err != nil {
		ds.Errorf(s.file.Root.DefRange, "module/provision", "%v", err)
		return ds
	}
	gen, found := buildGeneration(r, s)
	ds.Append(found)
	if gen != nil {
		err = gen.close()
	}
	if err = errors.Join(err, r.close()); err != nil {
		ds.Errorf(s.file.Root.DefRange, "module/cleanup", "%v", err)
	}
	return ds
}

// Start reads the configuration, binds the sockets and serves. A configuration
// with errors starts nothing: the diagnostics say why, and the error too.
func (s *Server) Start(ctx context.Context) (config.Diagnostics, map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	settings, ds, sources := check(&s.options)
	if err := ds.Err(); err != nil {
		return ds, sources, ErrInvalid
	}
	if err := s.makeLogger(settings); err != nil {
		return ds, sources, err
	}
	if err := s.start(ctx, settings); err != nil {
		return ds, sources, errors.Join(err, s.release())
	}
	return ds, sources, nil
}

// ErrInvalid is returned when the configuration has errors; the diagnostics tell
// them.
var ErrInvalid = errors.New("the configuration has errors")

func (s *Server) makeLogger(settings *settings) error {
	if s.log = s.options.Logger; s.log != nil {
		return nil
	}
	log, err := newLogger(settings.Log)
	if err != nil {
		return fmt.Errorf("open log %s: %w", settings.Log.Output, err)
	}
	s.log = log
	return nil
}

// start does what touches the machine, in the order that lets the server drop
// root in between.
func (s *Server) start(ctx context.Context, settings *settings) error {
	if err := s.bindAll(ctx, settings); err != nil {
		return err
	}
	if err := s.options.dropPrivileges(settings); err != nil {
		return err
	}
	r, err := openRuntime(ctx, s.options.registry(), settings, s.log, s.options.now())
	if err != nil {
		return err
	}
	s.runtime = r
	gen, ds := buildGeneration(r, settings)
	if gen == nil {
		return ds.Err()
	}
	if err := gen.start(ctx); err != nil {
		return errors.Join(err, gen.close())
	}
	s.current = s.serve(gen)
	s.log.Info("server started", zap.String("hostname", settings.Server.Hostname), zap.String("data_dir", r.store.Dir()))
	return nil
}

// release undoes a start that went wrong half way.
func (s *Server) release() error {
	for address, sock := range s.sockets {
		sock.close()
		delete(s.sockets, address)
	}
	if s.runtime == nil {
		return nil
	}
	r := s.runtime
	s.runtime = nil
	return r.close()
}

// bindAll binds the addresses of the listeners that are not bound yet. What it
// bound is closed again when one fails.
func (s *Server) bindAll(ctx context.Context, settings *settings) error {
	var bound []string
	for _, block := range settings.Listener {
		addresses, err := listenAddresses(s.options.registry(), block)
		if err != nil {
			return err
		}
		for _, address := range addresses {
			key := socketKey(block.Label(1), address)
			if _, ok := s.sockets[key]; ok {
				continue
			}
			sock, err := listenOn(ctx, address, settings.Server.DataDir, s.options.Sockets, s.log)
			if err != nil {
				for _, b := range bound {
					s.sockets[b].close()
					delete(s.sockets, b)
				}
				return fmt.Errorf("%s (%s:%d): %w", block.Header(), block.DefRange.Filename, block.DefRange.Start.Line, err)
			}
			s.sockets[key] = sock
			bound = append(bound, key)
			s.log.Info("listening", zap.String("listener", block.Label(1)), zap.Stringer("address", sock.Addr()))
		}
	}
	return nil
}

// socketKey tells sockets apart: by address, and where the system chooses the
// port, by listener too.
func socketKey(listener, address string) string {
	if strings.HasSuffix(address, ":0") {
		return listener + " " + address
	}
	return address
}

// listenAddresses decodes a listener block once more, only to learn its
// addresses before its module can be made.
func listenAddresses(registry *Registry, block *config.Block) ([]string, error) {
	info, ok := registry.Find("listener." + block.Label(0))
	if !ok {
		return nil, fmt.Errorf("no module listener.%s in this build", block.Label(0))
	}
	m := info.New()
	if err := config.Decode(block, m, new(listenerSettings)).Err(); err != nil {
		return nil, err
	}
	l, ok := m.(Listener)
	if !ok {
		return nil, fmt.Errorf("the module listener.%s is no listener", block.Label(0))
	}
	return l.Sockets(), nil
}

// serve gives the listeners of a generation their sockets.
func (s *Server) serve(gen *generation) *running {
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{generation: gen, cancel: cancel}
	for _, l := range gen.listeners {
		for _, address := range l.module.Sockets() {
			sock := s.sockets[socketKey(l.name, address)]
			share := sock.lease()
			run.leases = append(run.leases, share)
			run.serve.Go(func() {
				if err := l.module.Serve(ctx, share); err != nil {
					s.log.Error("listener ended", zap.String("listener", l.name), zap.String("address", address), zap.Error(err))
				}
			})
		}
	}
	return run
}

// closeLeases ends accepting for this generation.
func (r *running) closeLeases() {
	for _, l := range r.leases {
		_ = l.Close()
	}
}

// retire ends a generation: no new sessions, time for those that are there,
// then everything is cleaned up.
func (s *Server) retire(ctx context.Context, run *running) error {
	run.closeLeases()
	run.serve.Wait()
	var drain sync.WaitGroup
	for _, l := range run.listeners {
		drain.Go(func() {
			if err := l.module.Drain(ctx); err != nil {
				s.log.Warn("sessions were cut off", zap.String("listener", l.name), zap.Error(err))
			}
		})
	}
	drain.Wait()
	run.cancel()
	return run.close()
}

// Reload reads the configuration again and swaps it in. One with errors changes
// nothing, and the diagnostics say why. Sessions in flight finish on the old one.
func (s *Server) Reload(ctx context.Context) (config.Diagnostics, map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil, nil, errors.New("the server does not run")
	}
	settings, ds, sources := check(&s.options)
	if ds.HasErrors() {
		s.log.Error("reload refused: the configuration has errors", zap.Error(ds.Err()))
		return ds, sources, ErrInvalid
	}
	if err := s.swap(ctx, settings); err != nil {
		s.log.Error("reload failed: nothing has changed", zap.Error(err))
		return ds, sources, err
	}
	s.log.Info("configuration reloaded", zap.String("file", s.options.ConfigFile))
	return ds, sources, nil
}

func (s *Server) swap(ctx context.Context, settings *settings) error {
	old := s.current
	if settings.Server.DataDir != old.settings.Server.DataDir {
		return fmt.Errorf("data_dir cannot change from %s to %s while the server runs: restart it", old.settings.Server.DataDir, settings.Server.DataDir)
	}
	before := make(map[string]bool)
	for key := range s.sockets {
		before[key] = true
	}
	if err := s.bindAll(ctx, settings); err != nil {
		return err
	}
	gen, ds := buildGeneration(s.runtime, settings)
	err := ds.Err()
	if gen != nil {
		if err = gen.start(ctx); err != nil {
			err = errors.Join(err, gen.close())
		}
	}
	if err != nil {
		s.closeSockets(func(key string) bool { return before[key] })
		return err
	}
	s.current = s.serve(gen)
	old.closeLeases()
	s.retired.Go(func() {
		limit, cancel := s.drainContext(old.settings.Server.ReloadTimeout)
		defer cancel()
		if err := s.retire(limit, old); err != nil {
			s.log.Error("clean up the old configuration", zap.Error(err))
		}
	})
	wanted := make(map[string]bool)
	for _, l := range gen.listeners {
		for _, address := range l.module.Sockets() {
			wanted[socketKey(l.name, address)] = true
		}
	}
	s.closeSockets(func(key string) bool { return wanted[key] })
	return nil
}

// drainContext ends after the time or when the server stops.
func (s *Server) drainContext(limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	go func() {
		select {
		case <-s.stopped:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func (s *Server) closeSockets(keep func(key string) bool) {
	for key, sock := range s.sockets {
		if !keep(key) {
			sock.close()
			delete(s.sockets, key)
		}
	}
}

// Stop drains and ends the server: it stops accepting, lets sessions finish
// until the server block's drain_timeout or the end of ctx, and closes the
// store. The error tells what could not be ended in order.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil
	}
	close(s.stopped)
	s.closeSockets(func(string) bool { return false })
	limit, cancel := context.WithTimeout(ctx, s.current.settings.Server.DrainTimeout)
	defer cancel()
	err := s.retire(limit, s.current)
	s.retired.Wait()
	s.current = nil
	err = errors.Join(err, s.runtime.close())
	s.log.Info("server stopped")
	return err
}

// Addresses gives where a listener listens, in the order of its addresses.
func (s *Server) Addresses(listener string) []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []net.Addr
	if s.current == nil {
		return nil
	}
	for _, l := range s.current.listeners {
		if l.name == listener {
			for _, address := range l.module.Sockets() {
				list = append(list, s.sockets[socketKey(listener, address)].Addr())
			}
		}
	}
	return list
}
