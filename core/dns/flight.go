package dns

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// failureTTL is how long a failure is remembered, so that a question that nobody
// answers does not hold everybody up again and again (RFC 9520 section 3.2).
const failureTTL = 5 * time.Second

var errClosed = errors.New("the resolver is closed")

// result is how a question ended: with an answer or an error.
type result struct {
	answer Answer
	err    *Error
}

// get gives the result with the time that it holds from now on.
func (r *result) get(ttl time.Duration) (Answer, error) {
	if r.err != nil {
		return Answer{}, r.err
	}
	a := r.answer
	a.TTL = ttl
	return a, nil
}

// flight is one question on its way, whoever wants to know. It has a deadline
// of its own: who asked first may leave.
type flight struct {
	cancel context.CancelFunc
	done   chan struct{} // closed once result is there
	result result
}

// pending is a look-up between the question and the answer.
type pending struct {
	question
	flight *flight // nil if the answer is there
	answer Answer
	err    error
}

// Query gives the records of a type under a name. An error is an *Error.
func (r *Resolver) Query(ctx context.Context, name string, t Type) (Answer, error) {
	return r.wait(ctx, r.ask(ctx, name, t))
}

// ask takes the answer from the cache, or joins or begins a flight.
func (r *Resolver) ask(ctx context.Context, name string, t Type) pending {
	r.counters.lookups.Add(1)
	host, err := canonical(name)
	if err != nil {
		return pending{err: &Error{Name: name, Type: t, Kind: ErrBadName, Cause: err}}
	}
	q := question{host, t}
	if known, ttl := r.cache.get(q, r.now()); known != nil {
		r.counters.hits.Add(1)
		p := pending{question: q}
		p.answer, p.err = known.get(ttl)
		return p
	}
	return r.join(ctx, q)
}

// wait waits for the answer, or until the caller wants to wait no longer.
func (r *Resolver) wait(ctx context.Context, p pending) (Answer, error) {
	if p.flight == nil {
		return p.answer, p.err
	}
	select {
	case <-p.flight.done:
		return p.flight.result.get(p.flight.result.answer.TTL)
	case <-ctx.Done():
		return Answer{}, p.failed("", fmt.Errorf("no answer yet: %w", context.Cause(ctx)))
	}
}

// join finds the flight of a question, or begins one.
func (r *Resolver) join(ctx context.Context, q question) pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := pending{question: q}
	if p.flight = r.flights[q]; p.flight != nil {
		return p
	}
	// The flight may have landed since the cache was asked.
	if known, ttl := r.cache.get(q, r.now()); known != nil {
		p.answer, p.err = known.get(ttl)
		return p
	}
	s := r.settings.Load()
	switch {
	case r.closed:
		p.err = q.failed("", errClosed)
		return p
	case len(r.flights) >= s.MaxQueries:
		r.counters.failures.Add(1)
		p.err = q.failed("", fmt.Errorf("%d questions are being asked, as many as max_queries allows", len(r.flights)))
		return p
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timeout*time.Duration(s.Attempts))
	p.flight = &flight{cancel: cancel, done: make(chan struct{})}
	r.flights[q] = p.flight
	r.running.Go(func() {
		defer cancel()
		r.fly(ctx, q, s, p.flight)
	})
	return p
}

// failed gives the temporary error of a question. server is who was asked last,
// "" if nobody was.
func (q question) failed(server string, cause error) *Error {
	return &Error{Name: q.name, Type: q.typ, Server: server, Kind: ErrTemporary, Cause: cause}
}

// fly asks, and keeps what came of it.
func (r *Resolver) fly(ctx context.Context, q question, s *Settings, f *flight) {
	began := r.now()
	var ttl time.Duration
	f.result, ttl = r.resolve(ctx, q, s)
	landed := r.now()
	r.counters.duration.Add(int64(landed.Sub(began)))
	if f.result.err != nil && Temporary(f.result.err) {
		r.counters.failures.Add(1)
	}
	if ttl > 0 {
		r.cache.put(q, &f.result, landed.Add(ttl))
	}
	r.mu.Lock()
	delete(r.flights, q)
	r.mu.Unlock()
	close(f.done)
}

// resolve sends the question until a server answers it, and gives for how long
// the result holds.
func (r *Resolver) resolve(ctx context.Context, q question, s *Settings) (result, time.Duration) {
	if r.zone != nil {
		return r.fromZone(q, s)
	}
	servers := s.Servers
	if len(servers) == 0 {
		var err error
		if servers, err = r.system.get(r.now()); err != nil {
			r.outage.failure(r.now(), q.name, err)
			return result{err: q.failed("", err)}, 0
		}
	}
	servers = r.health.order(servers, r.now())
	var last *Error
	answered := false
	for range s.Attempts {
		if len(servers) == 0 || ctx.Err() != nil {
			break
		}
		server := servers[0]
		servers = servers[1:]
		r.counters.queries.Add(1)
		reply, err := r.exchange(ctx, server, q, s.Timeout)
		if err != nil {
			r.health.failed(server, r.now())
			last = q.failed(server.String(), err)
			if isTimeout(err) {
				servers = append(servers, server) // it may have been lost on the way
			}
			continue
		}
		answered = true
		r.health.answered(server)
		r.outage.answered(r.now())
		res, ttl, err := readReply(reply, q, server, s)
		if err == nil {
			return res, ttl
		}
		last = q.failed(server.String(), err) // another server may know; this one would say the same again
	}
	if last == nil || errors.Is(last, context.Canceled) {
		return result{err: q.failed("", errClosed)}, 0
	}
	if !answered {
		r.outage.failure(r.now(), q.name, last)
	}
	return result{err: last}, failureTTL
}

// Stats are figures of a resolver.
type Stats struct {
	// Lookups counts what was asked of the resolver, Hits those of it that the
	// cache answered, Queries what was sent to servers, Failures the questions that
	// ended in ErrTemporary.
	Lookups, Hits, Queries, Failures uint64
	// Duration is the time from question to answer, summed up over all that were
	// sent.
	Duration time.Duration
	// Entries is how many answers the cache holds, InFlight how many questions
	// are being asked.
	Entries, InFlight int
	// Outage is the time in which no server answers.
	Outage Outage
}

// Stats gives the figures.
func (r *Resolver) Stats() Stats {
	r.mu.Lock()
	inFlight := len(r.flights)
	r.mu.Unlock()
	c := &r.counters
	return Stats{
		Lookups: c.lookups.Load(), Hits: c.hits.Load(), Queries: c.queries.Load(), Failures: c.failures.Load(),
		Duration: time.Duration(c.duration.Load()), Entries: r.cache.len(), InFlight: inFlight,
		Outage: r.outage.get(),
	}
}

type counters struct {
	lookups, hits, queries, failures atomic.Uint64
	duration                         atomic.Int64
}
