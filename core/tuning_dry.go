package core

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/store"
)

// dryTuning checks the settings of domains where no server runs: against a
// generation on a store in memory that is never started, as validate makes it. It
// is made when it is first needed.
type dryTuning struct {
	options  Options
	runtime  *runtime // whose database has the settings
	settings *settings

	turn turn // guards what follows
	dry  *runtime
	gen  *generation
	err  error // why there is no generation, for good
}

// Tuning gives the settings of domains.
func (o *Offline) Tuning() *Tuning { return &Tuning{host: &o.tuning} }

// Tuning gives the settings of domains. The domains of a sandbox have no chains,
// and so nothing to tune.
func (s *Sandbox) Tuning() *Tuning { return &Tuning{host: &s.tuning} }

func (d *dryTuning) host() *runtime { return d.runtime }

func (d *dryTuning) tuned(ctx context.Context) (*tuned, error) {
	t, release, err := d.hold(ctx)
	if err != nil {
		return nil, err
	}
	release()
	return t, nil
}

func (d *dryTuning) hold(ctx context.Context) (*tuned, func(), error) {
	if err := d.turn.take(ctx); err != nil {
		return nil, nil, fmt.Errorf("wait for another change: %w", err)
	}
	if d.gen == nil && d.err == nil {
		if err := d.make(ctx); err != nil {
			d.turn.pass()
			return nil, nil, err
		}
	}
	if d.err != nil {
		d.turn.pass()
		return nil, nil, d.err
	}
	return d.gen.tuned, d.turn.pass, nil
}

// make builds the generation. A file with errors stays refused.
func (d *dryTuning) make(ctx context.Context) error {
	st, err := store.OpenMemory(store.Options{Now: d.options.now()})
	if err != nil {
		return err
	}
	r, err := newRuntime(d.options.registry(), st, d.settings, zap.NewNop(), d.options.now())
	if err != nil {
		return err
	}
	gen, ds := buildGeneration(r, d.settings)
	if gen == nil {
		d.err = &fileError{ds: ds.Unique(), sources: d.settings.file.Sources}
		return errors.Join(d.err, r.close())
	}
	gen.tuned = newTuned(gen, true)
	if err := gen.tuned.load(ctx, d.runtime.tuning); err != nil {
		return errors.Join(err, gen.close(), r.close())
	}
	d.dry, d.gen = r, gen
	return nil
}

func (d *dryTuning) close() error {
	if err := d.turn.take(context.Background()); err != nil {
		return err
	}
	defer d.turn.pass()
	var err error
	if d.gen != nil {
		err = d.gen.close()
		d.gen = nil
	}
	if d.dry != nil {
		err = errors.Join(err, d.dry.close())
		d.dry = nil
	}
	d.err = store.ErrClosed
	return err
}
