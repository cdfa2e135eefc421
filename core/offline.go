package core

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/trace"
)

// Host is what holds a data directory: a started Server, or Offline while none
// runs. Commands do their work on either.
type Host interface {
	// Traces gives the log of decisions.
	Traces() *trace.Log
	// Domains gives the domains of the configuration.
	Domains() *Domains
	// Tuning gives the settings of domains in the database.
	Tuning() *Tuning

	host() *runtime
	domainModules(ctx context.Context, domain string) ([]Module, error)
}

// ServiceOf finds the service module of a host that implements T, see Service.
func ServiceOf[T any](h Host) (T, error) { return serviceOf[T](h.host()) }

// Offline is a data directory with its services, without listeners and chains.
// It holds the directory's lock until it is closed.
type Offline struct {
	runtime  *runtime
	settings *settings
	tuning   dryTuning

	making turn                   // guards made
	made   map[string]*generation // modules of domains, as far as somebody has asked
}

// OpenOffline opens the data directory of a configuration. Only what the core
// itself reads of the file must be right. The error is ErrInvalid with
// diagnostics, or the store's, such as store.ErrLocked while a server runs.
func OpenOffline(ctx context.Context, o Options) (*Offline, config.Diagnostics, map[string][]byte, error) {
	s, ds, sources := o.settings()
	if s != nil {
		ds.Append(s.findUser(), s.checkDataDir())
	}
	if s == nil || ds.HasErrors() {
		return nil, ds, sources, ErrInvalid
	}
	log := o.Logger
	if log == nil {
		log = zap.NewNop()
	}
	if err := o.dropPrivileges(s); err != nil {
		return nil, ds, sources, err
	}
	r, err := openRuntime(ctx, o.registry(), s, log, o.now())
	if err != nil {
		return nil, ds, sources, err
	}
	dry := dryTuning{turn: make(turn, 1), options: o, runtime: r, settings: s}
	return &Offline{runtime: r, settings: s, tuning: dry, making: make(turn, 1), made: make(map[string]*generation)}, ds, sources, nil
}

// DataDir finds the data directory that a configuration names, without opening
// it. Only the server block must be right: a server that runs can be reached by a
// file that is being edited.
func DataDir(o Options) (string, config.Diagnostics, map[string][]byte, error) {
	file, ds := o.load()
	if ds.HasErrors() {
		return "", ds, file.Sources, ErrInvalid
	}
	s, more := decodeSettings(file, o.DataDir)
	for _, block := range file.Root.Blocks("server") {
		if config.Decode(block, new(ServerSettings)).HasErrors() {
			return "", more, file.Sources, ErrInvalid
		}
	}
	return s.Server.DataDir, nil, file.Sources, nil
}

// dropPrivileges makes the process the user of the server block, if there is one
// and the options say how.
func (o *Options) dropPrivileges(s *settings) error {
	if o.DropPrivileges == nil || s.user == nil {
		return nil
	}
	if err := o.DropPrivileges(s.user); err != nil {
		return fmt.Errorf("become user %s: %w", s.Server.User, err)
	}
	return nil
}

// settings reads the file and decodes what belongs to the core; nil if it cannot
// be read at all.
func (o *Options) settings() (*settings, config.Diagnostics, map[string][]byte) {
	file, ds := o.load()
	if file.Partial {
		return nil, ds, file.Sources
	}
	s, more := decodeSettings(file, o.DataDir)
	s.offline = o.Offline
	ds.Append(more)
	return s, ds, file.Sources
}

// Traces gives the log of decisions.
func (o *Offline) Traces() *trace.Log { return o.runtime.traces }

// Domains gives the domains of the configuration.
func (o *Offline) Domains() *Domains { return o.settings.domains }

func (o *Offline) host() *runtime { return o.runtime }

// Close ends the services and unlocks the directory.
func (o *Offline) Close() error {
	err := o.tuning.close()
	for _, gen := range o.made {
		err = errors.Join(err, gen.close())
	}
	return errors.Join(err, o.runtime.close())
}

// Traces gives the log of decisions of a started server.
func (s *Server) Traces() *trace.Log { return s.host().traces }

// Domains gives the domains of the configuration that is in force; none before
// Start and after Stop.
func (s *Server) Domains() *Domains {
	if run := s.inForce(); run != nil {
		return run.settings.domains
	}
	return newDomains("", "")
}

func (s *Server) host() *runtime {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runtime
}
