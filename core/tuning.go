package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/tuning"
)

// Tuning is the layer of settings of domains in the database of a host. It checks
// changes like the file, makes them durable, and then puts them in force where a
// server runs: what begins afterwards goes by them. Its methods are safe for
// concurrent use; domains need not be in normal form, and tuning.Template is one.
type Tuning struct{ host tunable }

// tunable is a host whose domains can be tuned.
type tunable interface {
	// tuned gives what is in force, or would be.
	tuned(ctx context.Context) (*tuned, error)
	// hold gives the same and keeps others from changing it until release is called.
	hold(ctx context.Context) (t *tuned, release func(), err error)
	host() *runtime
}

// Tuning gives the settings of domains of a started server.
func (s *Server) Tuning() *Tuning { return &Tuning{host: s} }

func (s *Server) tuned(context.Context) (*tuned, error) {
	if run := s.inForce(); run != nil {
		return run.tuned, nil
	}
	return nil, errStopped
}

func (s *Server) hold(ctx context.Context) (*tuned, func(), error) {
	if s.inForce() == nil {
		return nil, nil, errStopped
	}
	if err := s.changing.takeBefore(ctx, s.stopping); err != nil {
		return nil, nil, fmt.Errorf("wait for another change: %w", err)
	}
	t, err := s.tuned(ctx)
	if err != nil {
		s.changing.pass()
		return nil, nil, err
	}
	return t, s.changing.pass, nil
}

// Change makes the changes of a request, all or none. It gives ErrInvalid with
// diagnostics where a value is wrong, and an error that is tuning.ErrRequest where
// the request makes no sense, such as an unknown domain. The second result holds
// the texts that the diagnostics point into. Warnings come with changes that were
// made.
func (t *Tuning) Change(ctx context.Context, r tuning.Request) (config.Diagnostics, map[string][]byte, error) {
	if err := checkRequest(&r); err != nil {
		return nil, nil, err
	}
	held, release, err := t.host.hold(ctx)
	if err != nil {
		return refused(err)
	}
	defer release()
	return t.change(ctx, held, r)
}

func (t *Tuning) change(ctx context.Context, held *tuned, r tuning.Request) (config.Diagnostics, map[string][]byte, error) {
	if err := held.checkDomain(r); err != nil {
		return nil, nil, err
	}
	table, err := t.table()
	if err != nil {
		return nil, nil, err
	}
	return held.put(ctx, table, r)
}

// table gives the rows of a host that has been started.
func (t *Tuning) table() (*tuning.Table, error) {
	if r := t.host.host(); r != nil && r.tuning != nil {
		return r.tuning, nil
	}
	return nil, errStopped
}

// refused gives the diagnostics of a file with errors.
func refused(err error) (config.Diagnostics, map[string][]byte, error) {
	if file, ok := errors.AsType[*fileError](err); ok {
		return file.ds, file.sources, ErrInvalid
	}
	return nil, nil, err
}

// fileError is why nothing is tuned: the file has errors.
type fileError struct {
	ds      config.Diagnostics
	sources map[string][]byte
}

func (e *fileError) Error() string { return ErrInvalid.Error() + ":\n" + e.ds.Err().Error() }

func (e *fileError) Unwrap() error { return ErrInvalid }

// requestError gives an error that is tuning.ErrRequest.
func requestError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", tuning.ErrRequest, fmt.Sprintf(format, args...))
}

// normalDomain brings the name of a domain into normal form.
func normalDomain(name string) (string, error) {
	if name == tuning.Template {
		return name, nil
	}
	normal, err := mail.ParseDomain(name)
	if err != nil || normal[0] == '[' {
		return "", requestError("%q is not a domain name", name)
	}
	return normal, nil
}

// Limits of what names a setting.
const (
	maxNames = 255 // bytes of a handler's or an attribute's name
	maxTexts = 1000
)

// checkRequest holds a request against what can be told without the file.
func checkRequest(r *tuning.Request) error {
	var err error
	if r.Domain, err = normalDomain(r.Domain); err != nil {
		return err
	}
	if len(r.Changes) == 0 || len(r.Changes) > tuning.MaxChanges {
		return requestError("%d changes: there must be 1 to %d", len(r.Changes), tuning.MaxChanges)
	}
	for what, text := range map[string]string{"actor": r.Actor, "note": r.Note} {
		if len(text) > maxTexts || !printableText(text) {
			return requestError("the %s is longer than %d bytes or has control characters", what, maxTexts)
		}
	}
	seen := make(map[tuning.Key]bool)
	for i := range r.Changes {
		c := &r.Changes[i]
		for what, text := range map[string]string{"handler": c.Handler, "attribute": c.Attribute} {
			if text == "" || len(text) > maxNames || !printableText(text) {
				return requestError("the name of the %s %q is empty, longer than %d bytes or has control characters", what, text, maxNames)
			}
		}
		if seen[c.Key] {
			return requestError("%s.%s is changed twice", c.Handler, c.Attribute)
		}
		seen[c.Key] = true
		if c.Value == nil {
			continue
		}
		if len(*c.Value) > tuning.MaxValue || !utf8.ValidString(*c.Value) {
			return requestError("the value of %s.%s is longer than %d bytes or not UTF-8", c.Handler, c.Attribute, tuning.MaxValue)
		}
		trimmed := strings.TrimSpace(*c.Value)
		c.Value = &trimmed
	}
	return nil
}

func printableText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// checkDomain refuses to set something for a domain that does not live here. What
// is left of one that did can be removed.
func (t *tuned) checkDomain(r tuning.Request) error {
	sets := slices.ContainsFunc(r.Changes, func(c tuning.Change) bool { return c.Value != nil })
	if _, ok := t.domain(r.Domain); ok || !sets {
		return nil
	}
	var names []string
	for _, d := range t.gen.settings.domains.list {
		names = append(names, d.Name)
	}
	if near := config.Suggest(r.Domain, names); near != "" {
		return requestError("the domain %s does not live here; did you mean %s?", r.Domain, near)
	}
	return requestError("the domain %s does not live here: write domain %q {} into the file", r.Domain, r.Domain)
}

// Rollback brings the settings of a domain to what they were right after a
// revision of its history, 0 standing for none at all. It is a change like others
// and gives the same errors, and store.ErrNotFound if the domain has no such
// revision.
func (t *Tuning) Rollback(ctx context.Context, domain string, to int64, actor string) (config.Diagnostics, map[string][]byte, error) {
	domain, err := normalDomain(domain)
	if err != nil {
		return nil, nil, err
	}
	held, release, err := t.host.hold(ctx)
	if err != nil {
		return refused(err)
	}
	defer release()
	table, err := t.table()
	if err != nil {
		return nil, nil, err
	}
	changes, err := table.Undo(ctx, domain, to)
	if err != nil || len(changes) == 0 {
		return nil, nil, err
	}
	r := tuning.Request{Domain: domain, Changes: changes, Actor: actor, Note: fmt.Sprintf("rolled back to revision %d", to)}
	return t.change(ctx, held, r)
}

// Settings lists what is set for a domain, by handler and attribute, also for one
// that the file has no more.
func (t *Tuning) Settings(ctx context.Context, domain string) ([]tuning.Setting, error) {
	domain, err := normalDomain(domain)
	if err != nil {
		return nil, err
	}
	table, err := t.table()
	if err != nil {
		return nil, err
	}
	list, err := table.Of(ctx, domain)
	if err != nil {
		return nil, err
	}
	held, err := t.host.tuned(ctx)
	if err != nil && !errors.Is(err, ErrInvalid) {
		return nil, err
	}
	for i := range list {
		s := &list[i]
		if held == nil {
			s.Value, s.Problem = config.Hidden, ErrInvalid.Error()
			continue
		}
		s.InForce, s.Problem = held.state(domain, s.Key)
		if held.isSecret(domain, s.Key) {
			s.Value = config.Hidden
		}
	}
	return list, nil
}

// state tells whether a setting is in force, and why not.
func (t *tuned) state(domain string, key tuning.Key) (inForce bool, problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.given[domain].has(key), t.problems[domain][key]
}

// History gives the newest revisions of a domain that are older than the one
// before, 0 standing for the newest of all; the newest first, at most limit.
func (t *Tuning) History(ctx context.Context, domain string, before int64, limit int) ([]tuning.Revision, error) {
	domain, err := normalDomain(domain)
	if err != nil {
		return nil, err
	}
	table, err := t.table()
	if err != nil {
		return nil, err
	}
	list, err := table.History(ctx, domain, before, limit)
	if err != nil {
		return nil, err
	}
	held, err := t.host.tuned(ctx)
	if err != nil && !errors.Is(err, ErrInvalid) {
		return nil, err
	}
	hidden := config.Hidden
	for i := range list {
		if held != nil && !held.isSecret(domain, list[i].Key) {
			continue
		}
		for _, value := range []**string{&list[i].Before, &list[i].After} {
			if *value != nil {
				*value = &hidden
			}
		}
	}
	return list, nil
}

// Domains lists the domains that have settings, in the order of their names behind
// after, at most limit.
func (t *Tuning) Domains(ctx context.Context, after string, limit int) ([]string, error) {
	table, err := t.table()
	if err != nil {
		return nil, err
	}
	return table.Domains(ctx, after, limit)
}
