package core

import (
	"context"
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/logkey"
	"github.com/mox-like/mox-like/core/tuning"
)

// load puts the settings of the database in force, before anybody else sees t.
// What does not fit the file any more is left out and logged.
func (t *tuned) load(ctx context.Context, table *tuning.Table) error {
	rows, err := table.All(ctx)
	if err != nil {
		return err
	}
	t.loadRows(rows)
	return nil
}

// loadRows is load for rows at hand.
func (t *tuned) loadRows(rows []tuning.Setting) {
	of := make(map[string][]tuning.Setting)
	for _, r := range rows {
		of[r.Domain] = append(of[r.Domain], r)
	}
	var plans []*plan
	if list := of[tuning.Template]; list != nil {
		plans = append(plans, t.fit(tuning.Template, list))
		for _, d := range t.gen.settings.domains.list {
			if of[d.Name] == nil && t.ownSteps(d.Name) && (t.only == nil || t.only[d.Name]) {
				plans = append(plans, t.fit(d.Name, nil))
			}
		}
		delete(of, tuning.Template)
	}
	for _, domain := range slices.Sorted(maps.Keys(of)) {
		plans = append(plans, t.fit(domain, of[domain]))
	}
	t.commit(plans)
}

// fit makes the chains of a domain with those settings that fit.
func (t *tuned) fit(domain string, list []tuning.Setting) *plan {
	var candidates []tuning.Setting
	_, here := t.domain(domain)
	names := t.handlers(domain)
	for _, c := range list {
		switch {
		case !here:
			t.leaveOut(domain, c.Key, "the file has no domain "+domain)
		case !slices.Contains(names, c.Handler):
			t.leaveOut(domain, c.Key, "no chain that holds for "+domain+" has a handler \""+c.Handler+"\"")
		default:
			candidates = append(candidates, c)
		}
	}
	all := given{}
	for _, c := range candidates {
		all = all.with(tuning.Change{Key: c.Key, Value: &c.Value}, c.Changed)
	}
	p := t.plan(t.view(domain, all), domain)
	if p.ds.HasErrors() {
		t.drop(p)
		p, all = t.fitSome(domain, candidates)
	}
	if len(all) > 0 {
		t.mu.Lock()
		t.given[domain] = all
		t.mu.Unlock()
	}
	return p
}

// fitSome takes the settings one after the other, and leaves out those that do not
// fit what is there already.
func (t *tuned) fitSome(domain string, candidates []tuning.Setting) (*plan, given) {
	fits := given{}
	best := t.plan(t.view(domain, fits), domain)
	if best.ds.HasErrors() {
		t.gen.runtime.log.Warn("settings of domain * do not fit a domain and are left out there",
			zap.String("domain", domain), zap.String(logkey.Reason, firstError(best.ds)))
		t.drop(best)
		t.mu.Lock()
		t.aloof[domain] = true
		t.mu.Unlock()
		best = t.plan(t.view(domain, fits), domain)
	}
	for _, c := range candidates {
		more := fits.with(tuning.Change{Key: c.Key, Value: &c.Value}, c.Changed)
		p := t.plan(t.view(domain, more), domain)
		if p.ds.HasErrors() {
			t.leaveOut(domain, c.Key, firstError(p.ds))
			t.drop(p)
			continue
		}
		t.drop(best)
		best, fits = p, more
	}
	return best, fits
}

// leaveOut notes that a setting is not in force.
func (t *tuned) leaveOut(domain string, key tuning.Key, problem string) {
	if t.problems[domain] == nil {
		t.problems[domain] = make(map[tuning.Key]string)
	}
	t.problems[domain][key] = problem
	t.gen.runtime.log.Warn("setting of a domain left out", zap.String("domain", domain), zap.String(logkey.Handler, key.Handler),
		zap.String("attribute", key.Attribute), zap.String(logkey.Reason, problem))
}

func (t *tuned) drop(p *plan) {
	if err := t.release(p.uses); err != nil {
		t.gen.runtime.log.Error("clean up a handler of a domain", zap.Error(err))
	}
}

// firstError gives the first error in one line.
func firstError(ds config.Diagnostics) string {
	for _, d := range ds {
		if d.Severity == config.Error {
			return d.Summary
		}
	}
	return ""
}
