// Package hook holds the handlers exec and http, which have a program or a web
// service decide: it is sent a request in JSON that says what is known, and
// answers with a verdict in JSON. docs/hooks.md explains both with examples, the
// folder schema has them as JSON Schema.
//
// What a hook says is not trusted further than it must be: an answer that is too
// long, has an unknown or doubtful part or does not fit the stage is an error,
// as is none, and the chain's on_error says what that means. A hook is never sent
// a password, and lets nobody log in.
package hook

import (
	"context"
	"embed"
	"fmt"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// Schema holds the JSON Schemas of what a hook is sent and of what it answers:
// schema/request.json and schema/answer.json.
//
//go:embed schema/*.json
var Schema embed.FS

// What both handlers are: stages at which they may act, and how long a hook may
// take where the file does not say.
const (
	actsAt         = mail.AtConnect | mail.AtHelo | mail.AtMail | mail.AtRcpt | mail.AtData
	defaultTimeout = 10 * time.Second
)

// Settings are what exec and http have in common.
type Settings struct {
	// Include lists which parts of a message are sent at the data stage: header, its
	// header fields; body, its body in base64.
	Include []string `config:"include,fileonly" default:"header" values:"header,body"`
	// MaxBody is how much of a body is sent; of a longer one the rest is left out. Each
	// request that runs takes twice as much memory.
	MaxBody config.Size `config:"max_body,fileonly" default:"1MiB" min:"1KiB" max:"32MiB"`
}

// asker passes a request on to the hook and gives its answer, of at most
// maxAnswer bytes. It is safe for concurrent use.
type asker interface {
	ask(ctx context.Context, request []byte) (answer []byte, err error)
}

// judge has a transaction judged by a hook. It is safe for concurrent use.
type judge struct {
	name     string
	settings Settings
	gate     *gate
	hook     asker
}

// newJudge makes the judge of a handler. The number of requests at once is
// counted over all handlers of that kind and target.
func newJudge(c *core.Context, s Settings, target string, atOnce int, hook asker) (*judge, error) {
	shared, err := core.Shared(c, fmt.Sprintf("hook/gate/%d/%s", atOnce, target), func() (*gate, error) { return newGate(atOnce), nil })
	if err != nil {
		return nil, err
	}
	return &judge{name: c.Name(), settings: s, gate: shared, hook: hook}, nil
}

// handle asks the hook, and lets its answer act on the transaction.
func (j *judge) handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	busy, err := j.gate.enter(ctx)
	switch {
	case err != nil:
		return mail.Verdict{}, fmt.Errorf("wait for other requests to end: %w", err)
	case busy > 0:
		// Many requests at once are no fault of the hook's, for which on_error might
		// let them pass.
		return mail.Defer(mail.NewReply(451, 3, 2, "Server is busy, try again later"),
			fmt.Sprintf("the hook was not asked: %d requests run, and none ended in %s", j.gate.size(), busy.Round(time.Millisecond))), nil
	}
	text, err := j.ask(ctx, tx)
	if err != nil {
		return mail.Verdict{}, err
	}
	a, err := parseAnswer(text, tx.Stage)
	if err != nil {
		return mail.Verdict{}, fmt.Errorf("read the hook's answer: %w", err)
	}
	a.mark(tx, j.name)
	return a.verdict(), nil
}

// ask makes the request and gives the hook's answer. It frees the place at the
// gate, in which alone a request takes memory.
func (j *judge) ask(ctx context.Context, tx *mail.Transaction) ([]byte, error) {
	defer j.gate.leave()
	request, err := j.request(tx)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	return j.hook.ask(ctx, request)
}

// gate bounds how many requests run at once. Instances of a handler share it.
type gate struct{ slots chan struct{} }

func newGate(n int) *gate { return &gate{make(chan struct{}, n)} }

func (g *gate) size() int { return cap(g.slots) }

// waitFraction is the part of the time for a request that may be spent in
// waiting for others, as a divisor; without a limit of time maxWait holds.
const (
	waitFraction = 2
	maxWait      = 5 * time.Second
)

// enter takes a slot. If there is none it waits; busy is how long it did when
// that was in vain.
func (g *gate) enter(ctx context.Context) (busy time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	select {
	case g.slots <- struct{}{}:
		return 0, nil
	default:
	}
	patience := maxWait
	if deadline, ok := ctx.Deadline(); ok {
		patience = time.Until(deadline) / waitFraction
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return 0, nil
	case <-timer.C:
		return max(patience, 1), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (g *gate) leave() { <-g.slots }

// Close is there for core.Shared; a gate holds nothing that must be released.
func (*gate) Close() error { return nil }
