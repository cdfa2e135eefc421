package core

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/logkey"
)

// Reload reads the configuration again and swaps it in. One with errors changes
// nothing, and the diagnostics say why. Sessions in flight finish on the old one.
// Of settings that only a restart puts in force the diagnostics warn. The file of
// the log is opened again in any case.
func (s *Server) Reload(ctx context.Context) (config.Diagnostics, map[string][]byte, error) {
	if s.inForce() == nil {
		return nil, nil, errStopped
	}
	if err := s.reading.take(ctx); err != nil {
		return nil, nil, fmt.Errorf("wait for another reload: %w", err)
	}
	defer s.reading.pass()
	s.log.reopen()
	settings, ds, sources := check(&s.options)
	if ds.HasErrors() {
		s.log.Error("reload refused: the configuration has errors", zap.Error(ds.Err()))
		return ds, sources, ErrInvalid
	}
	later, err := s.swap(ctx, settings)
	if err != nil {
		s.log.Error("reload failed: nothing has changed", zap.Error(err))
		return ds, sources, err
	}
	for _, d := range later {
		s.log.Warn("reload incomplete", zap.String(logkey.Reason, d.Summary))
	}
	ds.Append(later)
	ds.Sort()
	s.log.Info("configuration reloaded", zap.String("file", s.options.ConfigFile))
	return ds, sources, nil
}

var errStopped = errors.New("the server does not run")

// swap puts settings in force, and warns of those that it cannot.
func (s *Server) swap(ctx context.Context, settings *settings) (config.Diagnostics, error) {
	if err := s.changing.takeBefore(ctx, s.stopping); err != nil {
		return nil, err
	}
	defer s.changing.pass()
	old := s.inForce()
	if old == nil {
		return nil, errStopped
	}
	if settings.Server.DataDir != old.settings.Server.DataDir {
		return nil, fmt.Errorf("data_dir cannot change from %s to %s while the server runs: restart it", old.settings.Server.DataDir, settings.Server.DataDir)
	}
	if err := s.replace(ctx, old, settings); err != nil {
		return nil, err
	}
	if level, err := zapcore.ParseLevel(settings.Log.Level); err == nil {
		s.log.level.SetLevel(level)
	}
	return needsRestart(s.started, settings), nil
}

// replace starts a generation, gives it the sockets, and retires the old one.
func (s *Server) replace(ctx context.Context, old *running, settings *settings) error {
	before := make(map[string]bool)
	for key := range s.sockets {
		before[key] = true
	}
	if err := s.bindAll(ctx, settings, true); err != nil {
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
	s.runtime.resolver.Configure(*settings.DNS)
	s.setInForce(s.serve(gen))
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

// drainContext ends after the time, or with the time of a Stop.
func (s *Server) drainContext(limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	go func() {
		select {
		case <-s.cut:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// NeedsRestart is the code of the diagnostics about what Reload does not put in
// force.
const NeedsRestart = "server/needs-restart"

// live are the settings of the core that a reload puts in force.
var live = map[string]bool{
	"server.hostname": true, "server.postmaster": true, "server.drain_timeout": true, "server.reload_timeout": true,
	"log.level": true,
}

// needsRestart warns of settings that are others than those of the start and that
// a reload does not put in force, in no order.
func needsRestart(started, fresh *settings) (ds config.Diagnostics) {
	blocks := map[string][2]any{
		"server": {started.Server, fresh.Server},
		"log":    {started.Log, fresh.Log},
		"trace":  {started.Trace, fresh.Trace},
		"store":  {started.Store, fresh.Store},
	}
	for block, pair := range blocks {
		was, is := reflect.ValueOf(pair[0]).Elem(), reflect.ValueOf(pair[1]).Elem()
		for _, setting := range config.Reference(was.Type()) {
			name := block + "." + setting.Name
			if live[name] || setting.Kind == config.KindLabel || reflect.DeepEqual(was.FieldByName(setting.Field).Interface(), is.FieldByName(setting.Field).Interface()) {
				continue
			}
			ds.Warnf(fresh.place(block, setting.Name), NeedsRestart, "the change of %s takes effect at the next restart", name)
		}
	}
	return ds
}
