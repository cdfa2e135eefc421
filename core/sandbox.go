package core

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/trace"
)

// Sandbox makes single modules without a server, for tests of modules: on a
// store in memory, or in a data directory. Package coretest wraps it.
type Sandbox struct {
	runtime  *runtime
	settings *settings

	mu     sync.Mutex // of Load and Close
	gen    *generation
	tuning dryTuning
}

// SandboxOptions say what the modules find around them.
type SandboxOptions struct {
	// Source is a configuration with the server block and the domains.
	Source string
	// Registry holds the modules and services; nil means DefaultRegistry.
	Registry *Registry
	// DataDir holds a store on disk; "" means a store in memory.
	DataDir string
	// Logger takes the modules' logs; nil means none.
	Logger *zap.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// NewSandbox starts the services of the registry.
func NewSandbox(ctx context.Context, o SandboxOptions) (*Sandbox, error) {
	options := Options{ConfigFile: "test.hcl", Source: []byte(o.Source), DataDir: o.DataDir, Registry: o.Registry, Now: o.Now}
	s, ds, _ := options.settings()
	if err := ds.Err(); err != nil {
		return nil, err
	}
	log := o.Logger
	if log == nil {
		log = zap.NewNop()
	}
	storeOptions := store.Options{Logger: log, Now: options.now(), BodyLimit: int64(s.Store.BodyLimit)}
	var st *store.Store
	var err error
	if o.DataDir == "" {
		st, err = store.OpenMemory(storeOptions)
	} else {
		st, err = store.Open(ctx, o.DataDir, storeOptions)
	}
	if err != nil {
		return nil, err
	}
	r, err := newRuntime(options.registry(), st, s, log, options.now())
	if err != nil {
		return nil, err
	}
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(err, r.close())
	}
	b := newBuilder(r, s)
	b.domainModules()
	if err = b.ds.Err(); err == nil {
		err = startAll(ctx, r, b.gen.modules)
	}
	if err != nil {
		return nil, errors.Join(err, b.gen.close(), r.close())
	}
	return &Sandbox{
		runtime: r, settings: s, gen: b.gen,
		tuning: dryTuning{turn: make(turn, 1), options: options, runtime: r, settings: s},
	}, nil
}

// Load makes and starts the module of that ID from the one block in source. The
// stages that the block chooses are not looked at: the caller calls Handle.
func (s *Sandbox) Load(ctx context.Context, id, source string) (Module, error) {
	file, ds := config.Parse("test.hcl", []byte(source), config.Options{})
	if err := ds.Err(); err != nil {
		return nil, err
	}
	blocks := file.Root.Blocks()
	if len(blocks) != 1 {
		return nil, fmt.Errorf("load %s: the text has %d blocks and needs one", id, len(blocks))
	}
	info, ok := s.runtime.registry.Find(id)
	if !ok {
		return nil, fmt.Errorf("load %s: no such module", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &builder{gen: s.gen}
	name := blocks[0].Type
	var also []any
	switch info.Namespace() {
	case "handler":
		also = append(also, new(handlerSettings))
		if info.StageAttribute {
			also = append(also, new(stageSettings))
		}
	case "tls":
		also = append(also, new(tlsLabels))
	case "listener":
		also = append(also, new(listenerSettings))
	}
	if l := len(blocks[0].Labels); l > 0 {
		name = blocks[0].Labels[l-1]
	}
	before := len(s.gen.modules)
	m := b.one(info, blocks[0], b.context(name, "test"), also...)
	if m == nil {
		return nil, b.ds.Err()
	}
	return m, startAll(ctx, s.runtime, s.gen.modules[before:])
}

// Traces gives the log of decisions.
func (s *Sandbox) Traces() *trace.Log { return s.runtime.traces }

// Domains gives the domains of the configuration.
func (s *Sandbox) Domains() *Domains { return s.settings.domains }

func (s *Sandbox) host() *runtime { return s.runtime }

// Store gives the store that the modules share.
func (s *Sandbox) Store() *store.Store { return s.runtime.store }

// Close cleans the modules up and ends the services.
func (s *Sandbox) Close() error {
	return errors.Join(s.tuning.close(), s.gen.close(), s.runtime.close())
}
