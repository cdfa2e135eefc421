package coretest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// HandlerSuite is what every handler must do, whatever it judges by.
type HandlerSuite struct {
	// ID is the module's, such as "handler.greylist".
	ID string
	// Config is one block of the handler with good settings. What they name, such
	// as a backend, must be there: no transaction of the suite may end in an error.
	Config string
	// Bad are blocks with a mistake each.
	Bad []Bad
	// Hanging is a block whose backend never answers, see Faulty; "" for handlers
	// without one.
	Hanging string
	// Base replaces the configuration of that name.
	Base string
	// Setup is called with the started server, to add accounts and the like.
	Setup func(tb testing.TB, h core.Host)
	// Transaction makes the nth transaction of a stage in place of the function of
	// that name. It is called from several goroutines at once.
	Transaction func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction
	// Rounds is how many transactions each of those that run at once has; 0 means
	// 12. It is for handlers that are slow on purpose.
	Rounds int
	// Options are those of the server.
	Options Options
}

// Bad is a block of a handler that must be refused.
type Bad struct {
	// Config is the block.
	Config string
	// Attribute is the setting at which the mistake must be shown, written as in a
	// config.Problem; "" stands for the block's header.
	Attribute string
	// Code is the diagnostic's; "" for any.
	Code string
}

// TestHandler runs the suite: the handler explains itself, changes nothing that is
// not its own and nothing at all in a trial, honours its deadline, is safe for
// concurrent use, goes on while another instance of it is cleaned up, leaves no
// goroutine behind, refuses bad settings with their place, and is documented.
//
// The test that calls it must not be parallel, since goroutines of others would
// look like the handler's.
func TestHandler(t *testing.T, suite HandlerSuite) {
	t.Helper()
	if suite.Base == "" {
		suite.Base = Base
	}
	if suite.Transaction == nil {
		suite.Transaction = Transaction
	}
	if suite.Rounds == 0 {
		suite.Rounds = 12
	}
	info, ok := core.DefaultRegistry.Find(suite.ID)
	if !ok {
		t.Fatalf("the build has no module %s", suite.ID)
	}
	t.Run("refuses bad settings", suite.refuses)
	t.Run("is documented", func(t *testing.T) { documented(t, info) })
	before := goleak.IgnoreCurrent()
	suite.live(t, info)
	t.Run("changes nothing in a trial", suite.tries)
	if suite.Hanging != "" {
		t.Run("honours its deadline when the backend hangs", suite.hangs)
	}
	goleak.VerifyNone(t, before)
}

// live runs a server around the handler and all that needs one.
func (suite *HandlerSuite) live(t *testing.T, info core.Info) {
	t.Helper()
	s := newStage(t, suite.source(suite.Config), suite.Options)
	defer s.stop(t)
	one, two := s.handlers(t)
	if suite.Setup != nil {
		suite.Setup(t, s)
	}
	t.Run("keeps to its stages", func(t *testing.T) { suite.keeps(t, info, one, s.chain) })
	t.Run("explains itself", func(t *testing.T) { suite.explains(t, info, one) })
	t.Run("honours its deadline", func(t *testing.T) { suite.ends(t, one) })
	t.Run("is safe for concurrent use", func(t *testing.T) { suite.concurrent(t, info, one, two) })
	t.Run("goes on while another instance is cleaned up", func(t *testing.T) { suite.swapped(t, info, s) })
}

// source is a configuration with the block in the chains of both listeners.
func (suite *HandlerSuite) source(block string) string {
	var b strings.Builder
	b.WriteString(suite.Base)
	last := targetName + " {}"
	if info, _ := core.DefaultRegistry.Find(suite.ID); info.Target {
		last = ""
	}
	for _, name := range []string{listenerOne, listenerTwo} {
		fmt.Fprintf(&b, "\nlistener %q %q {\naddress = \"127.0.0.1:0\"\nchain {\n%s\n%s\n}\n}\n", listenerKind, name, block, last)
	}
	return b.String()
}

// each calls do with transactions of all stages of a step.
func (suite *HandlerSuite) each(tb testing.TB, step *chain.Step, from, to int, do func(*mail.Transaction)) {
	tb.Helper()
	for n := from; n < to; n++ {
		for stage := range mail.Stage(mail.NumStages) {
			if step.Stages.Has(stage) {
				tx := suite.Transaction(tb, stage, n)
				tx.Stage = stage
				do(tx)
			}
		}
	}
}

// keeps finds that the handler acts at stages that it declares, and that a
// transaction which passes the others in its chain is left alone.
func (suite *HandlerSuite) keeps(t *testing.T, info core.Info, step *chain.Step, whole *chain.Chain) {
	t.Helper()
	if step.Stages == 0 || step.Stages&^info.Stages != 0 {
		t.Errorf("it acts at %v and declares %v", step.Stages.Names(), info.Stages.Names())
	}
	for stage := range mail.Stage(mail.NumStages) {
		if step.Stages.Has(stage) {
			continue
		}
		tx := suite.Transaction(t, stage, 200)
		whole.Run(t.Context(), stage, tx)
		for _, e := range tx.Entries {
			if e.Handler == step.Name {
				t.Errorf("it was asked at %s: %+v", stage, e)
			}
		}
		if tx.Score() != 0 || len(tx.Tags()) > 0 || len(tx.AuthResults()) > 0 || tx.Quarantined() != "" {
			t.Errorf("at %s it left something behind: score %g, tags %q, results %v, quarantine %q",
				stage, tx.Score(), tx.Tags(), tx.AuthResults(), tx.Quarantined())
		}
	}
}

// explains looks at each verdict and at what has become of the transaction.
func (suite *HandlerSuite) explains(t *testing.T, info core.Info, step *chain.Step) {
	t.Helper()
	suite.each(t, step, 0, min(8, suite.Rounds), func(tx *mail.Transaction) { judged(t, info, step, tx) })
}

// judged has a transaction judged and holds the handler to what it may do.
func judged(tb testing.TB, info core.Info, step *chain.Step, tx *mail.Transaction) {
	tb.Helper()
	before := lookAt(tx)
	verdict, err := step.Handler.Handle(tb.Context(), tx)
	if err != nil {
		tb.Errorf("at %s: %v", tx.Stage, err)
		return
	}
	for _, fault := range faultsOf(tx.Stage, verdict) {
		tb.Errorf("at %s, verdict %s: %s", tx.Stage, verdict.Action, fault)
	}
	for _, fault := range before.changes(tx, info) {
		tb.Errorf("at %s: it changed %s", tx.Stage, fault)
	}
	if o, ok := step.Handler.(core.Observer); ok {
		o.Observe(tb.Context(), tx, mail.Outcome{Stage: tx.Stage, Verdict: verdict, Handler: step.Name})
	}
}

// ends finds that a call whose time is over returns.
func (suite *HandlerSuite) ends(t *testing.T, step *chain.Step) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	suite.each(t, step, 100, 101, func(tx *mail.Transaction) { returns(ctx, t, step, tx) })
}

// returns calls a handler and fails if it does not come back.
func returns(ctx context.Context, t *testing.T, step *chain.Step, tx *mail.Transaction) {
	t.Helper()
	type answer struct {
		verdict mail.Verdict
		err     error
	}
	answered := make(chan answer, 1)
	stage := tx.Stage
	go func() {
		v, err := step.Handler.Handle(ctx, tx)
		answered <- answer{v, err}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a := <-answered:
		if a.err != nil {
			if fault := faultOfText(a.err.Error()); fault != "" {
				t.Errorf("at %s: the error %s", stage, fault)
			}
			return
		}
		for _, fault := range faultsOf(stage, a.verdict) {
			t.Errorf("at %s, verdict %s: %s", stage, a.verdict.Action, fault)
		}
	case <-timer.C:
		t.Fatalf("at %s: it is still busy %s after its deadline", stage, patience)
	}
}

// hangDeadline is what a handler gets whose backend hangs.
const hangDeadline = 200 * time.Millisecond

// hangs finds that a hanging backend does not hold the handler.
func (suite *HandlerSuite) hangs(t *testing.T) {
	t.Helper()
	s := newStage(t, suite.source(suite.Hanging), suite.Options)
	defer s.stop(t)
	one, _ := s.handlers(t)
	if suite.Setup != nil {
		suite.Setup(t, s)
	}
	suite.each(t, one, 0, 1, func(tx *mail.Transaction) {
		ctx, cancel := context.WithTimeout(t.Context(), hangDeadline)
		defer cancel()
		returns(ctx, t, one, tx)
	})
}

// workers is how many transactions are judged at once.
const workers = 8

// concurrent has many transactions judged at once by two instances.
func (suite *HandlerSuite) concurrent(t *testing.T, info core.Info, steps ...*chain.Step) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			step := steps[w%len(steps)]
			from := 1000 + w*suite.Rounds
			suite.each(t, step, from, from+suite.Rounds, func(tx *mail.Transaction) { judged(t, info, step, tx) })
		})
	}
	wg.Wait()
}

// swapped reloads the configuration while the handler judges: the new instances
// go on when the old ones are cleaned up.
func (suite *HandlerSuite) swapped(t *testing.T, info core.Info, s *stage) {
	t.Helper()
	for round := range 2 {
		if ds, _, err := s.Reload(t.Context()); err != nil {
			t.Fatalf("reload: %v\n%v", err, ds.Err())
		}
		one, two := s.handlers(t)
		from, n := 2000+10*round, min(4, suite.Rounds)
		suite.each(t, one, from, from+n, func(tx *mail.Transaction) { judged(t, info, one, tx) })
		suite.each(t, two, from+n, from+2*n, func(tx *mail.Transaction) { judged(t, info, two, tx) })
	}
}

// refuses holds bad settings against the diagnostics that they give.
func (suite *HandlerSuite) refuses(t *testing.T) {
	for _, bad := range suite.Bad {
		source := []byte(suite.source(bad.Config))
		ds, _ := core.Validate(core.Options{
			ConfigFile: "test.hcl", Source: source, DataDir: t.TempDir(), Registry: newRegistry(nil),
			Config: config.Options{Variables: suite.Options.Variables}, Now: suite.Options.Now,
		})
		if !ds.HasErrors() {
			t.Errorf("valid: %s", bad.Config)
			continue
		}
		for _, fault := range bad.faults(source, ds) {
			t.Errorf("%s: %s", bad.Config, fault)
		}
	}
}
