package core

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/logkey"
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
	// Offline has Validate and Examine look at the text of the configuration alone:
	// not at the environment, other files and the machine. Nothing else honours it.
	Offline bool
	// Logger replaces the one that the log block asks for.
	Logger *zap.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Sockets are those that the service manager bound, by address.
	Sockets map[string]net.Listener
	// DropPrivileges is called with the server block's user once the ports are bound
	// and before anything else but the log is opened, also by OpenOffline, so that
	// what the server makes belongs to that user; nil leaves the process as it is.
	DropPrivileges func(*SystemUser) error
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

	reading  turn // of one Reload at a time
	changing turn // of Start, swap and Stop, one at a time
	// What follows is of who has that turn.
	started *settings // those of Start
	sockets map[string]*socket
	retired sync.WaitGroup // generations that drain after a reload
	cut     chan struct{}  // closed when their time is over

	stopping chan struct{} // closed when Stop begins: nobody waits for the turn any more
	stopOnce sync.Once

	mu      sync.Mutex
	log     *logger  // guarded by mu, set once
	runtime *runtime // guarded by mu, set once
	current *running // guarded by mu, changed by who has the turn
	// cleaning is guarded by mu, set once.
	cleaning *cleaning
}

// running is a generation that serves.
type running struct {
	*generation
	instances []*instance // the modules, which generation forgets when it is closed
	listening []Listening
	leases    []*lease
	serve     sync.WaitGroup
	cancel    context.CancelFunc
}

// turn is a mutex that one can give up to wait for.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takeBefore is take for who must not wait for a server that stops, since the stop
// waits for him: the requests of its listeners.
func (t turn) takeBefore(ctx context.Context, stopping <-chan struct{}) error {
	select {
	case t <- struct{}{}:
		return nil
	default:
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-stopping:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) pass() { <-t }

// NewServer makes a server that is not started.
func NewServer(o Options) *Server {
	return &Server{
		options: o, reading: make(turn, 1), changing: make(turn, 1),
		sockets: make(map[string]*socket), cut: make(chan struct{}), stopping: make(chan struct{}),
	}
}

// inForce gives the generation that serves, nil before Start and after Stop.
func (s *Server) inForce() *running {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *Server) setInForce(run *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = run
}

// modules are those of the configuration in force.
func (s *Server) modules() []*instance {
	if run := s.inForce(); run != nil {
		return run.instances
	}
	return nil
}

// Validate says everything that is wrong with a configuration. It runs the whole
// of Provision and Validate with a store in memory, and touches nothing. The
// second result holds the texts that the diagnostics point into.
func Validate(o Options) (config.Diagnostics, map[string][]byte) {
	_, ds, sources := check(&o)
	return ds, sources
}

func check(o *Options) (*settings, config.Diagnostics, map[string][]byte) {
	s, _, ds, sources := examine(o)
	return s, ds, sources
}

// dryRun builds a generation on a store in memory and throws it away. The plan is
// of what it built, nil where it could not even begin.
func dryRun(o *Options, s *settings) (*Plan, config.Diagnostics) {
	var ds config.Diagnostics
	st, err := store.OpenMemory(store.Options{Now: o.now()})
	if err != nil {
		ds.Errorf(s.file.Root.DefRange, "store/memory", "%v", err)
		return nil, ds
	}
	r, err := newRuntime(o.registry(), st, s, zap.NewNop(), o.now())
	if err != nil {
		ds.Errorf(s.file.Root.DefRange, "module/provision", "%v", err)
		return nil, ds
	}
	b := newBuilder(r, s)
	b.build()
	plan := b.plan()
	gen, found := b.finish()
	ds.Append(found)
	if gen != nil {
		err = gen.close()
	}
	if err = errors.Join(err, r.close()); err != nil {
		ds.Errorf(s.file.Root.DefRange, "module/cleanup", "%v", err)
	}
	return plan, ds
}

// Start reads the configuration, binds the sockets and serves. A configuration
// with errors starts nothing: the diagnostics say why, and the error too.
func (s *Server) Start(ctx context.Context) (config.Diagnostics, map[string][]byte, error) {
	if err := s.changing.take(ctx); err != nil {
		return nil, nil, err
	}
	defer s.changing.pass()
	settings, ds, sources := check(&s.options)
	if err := ds.Err(); err != nil {
		return ds, sources, ErrInvalid
	}
	if err := s.openLog(settings); err != nil {
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

func (s *Server) openLog(settings *settings) error {
	log := &logger{Logger: s.options.Logger, level: zap.NewAtomicLevel()}
	if log.Logger == nil {
		var err error
		if log, err = newLogger(settings); err != nil {
			return fmt.Errorf("open log: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = log
	return nil
}

// start does what touches the machine, in the order that lets the server drop
// root in between. Unix sockets need no root: they belong to the user, and may
// stand in the data directory.
func (s *Server) start(ctx context.Context, settings *settings) error {
	if err := s.bindAll(ctx, settings, false); err != nil {
		return err
	}
	if err := s.options.dropPrivileges(settings); err != nil {
		return err
	}
	r, err := openRuntime(ctx, s.options.registry(), settings, s.log.Logger, s.options.now())
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.runtime = r
	s.mu.Unlock()
	if err := s.bindAll(ctx, settings, true); err != nil {
		return err
	}
	gen, ds := buildGeneration(r, settings)
	if gen == nil {
		return ds.Err()
	}
	if err := gen.start(ctx); err != nil {
		return errors.Join(err, gen.close())
	}
	s.started = settings
	s.setInForce(s.serve(gen))
	s.mu.Lock()
	s.cleaning = startCleaning(r, s.modules)
	s.mu.Unlock()
	s.log.Info("server started", zap.String("hostname", settings.Server.Hostname), zap.String("data_dir", r.store.Dir()))
	return nil
}

// release undoes a start that went wrong half way.
func (s *Server) release() error {
	s.closeSockets(func(string) bool { return false })
	var err error
	if s.runtime != nil {
		err = s.runtime.close()
	}
	return errors.Join(err, s.log.close())
}

// bindAll binds the addresses of the listeners that are not bound yet, those of
// Unix sockets only if told so. What it bound is closed again when one fails.
func (s *Server) bindAll(ctx context.Context, settings *settings, withUnix bool) error {
	before := maps.Clone(s.sockets)
	for _, block := range settings.Listener {
		addresses, err := listenAddresses(s.options.registry(), block)
		if err != nil {
			return err
		}
		for _, address := range addresses {
			key := socketKey(block.Label(1), address)
			if _, isUnix := unixPath(address); s.sockets[key] != nil || isUnix && !withUnix {
				continue
			}
			sock, err := listenOn(ctx, address, settings.Server.DataDir, s.options.Sockets, s.log.Logger)
			if err != nil {
				s.closeSockets(func(key string) bool { return before[key] != nil })
				return fmt.Errorf("%s (%s:%d): %w", block.Header(), block.DefRange.Filename, block.DefRange.Start.Line, err)
			}
			s.sockets[key] = sock
			s.log.Info("listening", zap.String(logkey.Listener, block.Label(1)), zap.Stringer(logkey.Address, sock.Addr()))
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
	run := &running{generation: gen, instances: gen.modules, cancel: cancel}
	for _, l := range gen.listeners {
		listening := Listening{Name: l.name, Kind: l.block.Label(0)}
		for _, address := range l.module.Sockets() {
			sock := s.sockets[socketKey(l.name, address)]
			listening.Addresses = append(listening.Addresses, sock.Addr())
			share := sock.lease()
			run.leases = append(run.leases, share)
			run.serve.Go(func() {
				if err := l.module.Serve(ctx, share); err != nil {
					s.log.Error("listener ended", zap.String(logkey.Listener, l.name), zap.String(logkey.Address, address), zap.Error(err))
				}
			})
		}
		run.listening = append(run.listening, listening)
	}
	return run
}

// closeLeases ends accepting for this generation.
func (r *running) closeLeases() {
	for _, l := range r.leases {
		_ = l.Close()
	}
}

// retire ends a generation: no new sessions, time until ctx ends for those that
// are there, then everything is cleaned up.
func (s *Server) retire(ctx context.Context, run *running) error {
	run.closeLeases()
	served := make(chan struct{})
	go func() {
		defer close(served)
		run.serve.Wait()
	}()
	select {
	case <-served:
	case <-ctx.Done():
		s.log.Error("a listener goes on accepting")
	}
	var drain sync.WaitGroup
	for _, l := range run.listeners {
		drain.Go(func() {
			if err := l.module.Drain(ctx); err != nil {
				s.log.Warn("sessions were cut off", zap.String(logkey.Listener, l.name), zap.Error(err))
			}
		})
	}
	drain.Wait()
	run.cancel()
	return run.close()
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
	run := s.inForce()
	if run == nil {
		return nil
	}
	s.stopOnce.Do(func() { close(s.stopping) })
	s.host().trials.stop()
	limit, cancel := context.WithTimeout(ctx, run.settings.Server.DrainTimeout)
	defer cancel()
	if err := s.changing.take(limit); err != nil {
		return fmt.Errorf("wait for the reload: %w", err)
	}
	defer s.changing.pass()
	if run = s.inForce(); run == nil {
		return nil
	}
	context.AfterFunc(limit, func() { close(s.cut) })
	s.cleaning.close()
	s.closeSockets(func(string) bool { return false })
	err := s.retire(limit, run)
	s.retired.Wait()
	s.setInForce(nil)
	err = errors.Join(err, s.runtime.close())
	s.log.Info("server stopped")
	return errors.Join(err, s.log.close())
}
