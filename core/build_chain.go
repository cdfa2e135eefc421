package core

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/tuning"
)

// chainBuilder makes the chains of one listener: its own and its domains'.
type chainBuilder struct {
	*builder
	listener string
	log      *zap.Logger // of its chains
	// feeds are the stages that the listener runs.
	feeds mail.Stages
	// domain is set while a domain's own chain is made.
	domain *Domain
	// layers are the settings that lie over the handlers, the weakest first; applied
	// is how many of them those that are inherited have already.
	layers  []layer
	applied int
	// inherited are the listener's steps, for a domain's chain.
	inherited []*step
	// needsLogin says that clients can log in at the listener, so that a handler
	// must be there that knows them.
	needsLogin bool
	// scope names what a tuned instance shares its circuit breaker with, "" for the
	// listener or the domain.
	scope string
	// incomplete says that a handler could not be made, so that what seems to be
	// missing may be there.
	incomplete bool
}

// chainWords are the blocks of a chain that are no handlers.
var chainWords = []string{"use", "inherit", "parallel"}

// step is a chain's step and the block that it was made of, so that a domain's
// settings can make another instance of it.
type step struct {
	chain.Step
	info Info
	// block is what it was made of, plain the handler's own without settings that lie
	// over it.
	block, plain *config.Block
	needs        []config.Need
	parallel     []*step
	// off says that the handler is disabled.
	off bool
	// origin is where its settings come from.
	origin *origin
}

// handlerSettings are the attributes that every handler has; the module does not
// know them.
type handlerSettings struct {
	// Name is the handler's own name, for when one stands twice in a chain.
	Name string `config:"name,label,optional"`
	// When is asked for each message; the handler is skipped where it is false.
	When config.Expr `config:"when"`
	// OnError is what an error of the handler means: pass as if it were not there,
	// have the client come back, or refuse.
	OnError string `config:"on_error" default:"continue" values:"continue,defer,reject"`
	// OnTimeout is what it means that the handler gave no answer in time: within
	// timeout, or within a shorter limit of its own such as connect_timeout. Without it
	// that is an error like others, for on_error. While the handler rests after repeated
	// errors, the setting holds that the last of them was for.
	OnTimeout string `config:"on_timeout" values:"continue,defer,reject"`
	// Timeout bounds each call.
	Timeout *time.Duration `config:"timeout" min:"1ms" max:"30m"`
	// Enabled false leaves the handler out, as if it were not written.
	Enabled bool `config:"enabled" default:"true"`
	// Mode monitor runs the handler and records its verdict without acting on it.
	Mode string `config:"mode" default:"enforce" values:"enforce,monitor"`
}

// stageSettings is the attribute of handlers that let the file choose.
type stageSettings struct {
	// Stage is where the handler acts.
	Stage []string `config:"stage" values:"connect,helo,auth,mail,rcpt,data"`
}

// steps makes the handlers of a chain body. via are the named chains that led
// here.
func (b *chainBuilder) steps(body *config.Block, via []*config.Block) []*step {
	var list []*step
	for _, a := range body.Attributes() {
		b.ds.Errorf(a.NameRange, "chain/attribute", "a chain has handlers and no attributes, but here is %q", a.Name).
			WithDetail("Write it into the block of the handler that it is meant for.")
	}
	for _, block := range body.Blocks() {
		switch block.Type {
		case "use":
			list = append(list, b.use(block, via)...)
		case "inherit":
			list = append(list, b.inherit(block)...)
		case "parallel":
			if s := b.parallel(block); s != nil {
				list = append(list, s)
			}
		default:
			s := b.handler(block)
			if s == nil {
				b.incomplete = true
				continue
			}
			list = append(list, s)
		}
	}
	return list
}

// use splices a named chain in.
func (b *chainBuilder) use(block *config.Block, via []*config.Block) []*step {
	if b.empty(block, 1); len(block.Labels) != 1 {
		b.unsure, b.incomplete = true, true
		return nil
	}
	name := block.Label(0)
	target, ok := b.chains[name]
	if !ok {
		b.unsure, b.incomplete = true, true
		names := slices.Sorted(maps.Keys(b.chains))
		d := b.ds.Errorf(block.LabelRange(0), "chain/unknown", "there is no chain %q", name)
		if near := config.Suggest(name, names); near != "" {
			d.WithDetail("Did you mean %q?", near)
		} else {
			d.WithDetail("Named chains of this file: %s.", list(names))
		}
		return nil
	}
	if slices.Contains(via, target) {
		b.ds.Errorf(block.DefRange, "chain/cycle", "the chain %q uses itself", name).
			WithDetail("Remove this use: a chain is spliced in once, where use stands.").
			WithRelated(target.DefRange, "it begins here")
		return nil
	}
	b.used[name] = true
	return b.steps(target, append(slices.Clone(via), target))
}

// inherit gives the listener's handlers up to its targets.
func (b *chainBuilder) inherit(block *config.Block) []*step {
	b.empty(block, 0)
	if b.domain == nil {
		b.ds.Errorf(block.DefRange, "chain/inherit", "inherit stands in a domain's chain only").
			WithDetail(`A listener's chain is spliced together with use "NAME" {}.`)
		return nil
	}
	var list []*step
	for _, s := range b.inherited {
		if !s.Target {
			list = append(list, b.tuned(s))
		}
	}
	return list
}

// empty refuses what use and inherit do not have.
func (b *chainBuilder) empty(block *config.Block, labels int) {
	if len(block.Labels) != labels {
		way := "Write " + block.Type + " {}."
		if labels == 1 {
			way = "Write " + block.Type + ` "NAME" {}, with the name of a chain at the top of the file.`
		}
		b.ds.Errorf(block.DefRange, "chain/labels", "%s has %d labels and needs %d", block.Type, len(block.Labels), labels).WithDetail("%s", way)
	}
	for _, a := range block.Attributes() {
		b.ds.Errorf(a.NameRange, "chain/attribute", "%s has no attributes, but here is %q", block.Type, a.Name)
	}
	for _, nested := range block.Blocks() {
		b.ds.Errorf(nested.DefRange, "chain/block", "%s holds nothing, but here is %s", block.Type, nested.Header())
	}
}

// parallel makes the handlers of a parallel block, which all act at one stage.
func (b *chainBuilder) parallel(block *config.Block) *step {
	for _, a := range block.Attributes() {
		b.ds.Errorf(a.NameRange, "chain/attribute", "parallel has no attributes, but here is %q", a.Name)
	}
	s := &step{block: block}
	s.Position = b.position(block)
	for _, nested := range block.Blocks() {
		if slices.Contains(chainWords, nested.Type) {
			b.ds.Errorf(nested.DefRange, "chain/parallel", "parallel holds handlers, but here is %s", nested.Type).
				WithDetail("Move it out of the parallel block.")
			continue
		}
		h := b.handler(nested)
		if h == nil {
			b.incomplete = true
			continue
		}
		if h.Target {
			b.ds.Errorf(nested.DefRange, "chain/parallel", "%s is a target and cannot stand in parallel", nested.Type).
				WithDetail("Targets stand at the end of the chain.")
		}
		s.parallel = append(s.parallel, h)
		s.Parallel = append(s.Parallel, &h.Step)
	}
	if len(s.parallel) == 0 {
		return nil
	}
	return s
}

// handler makes one handler of its block; nil where there were errors.
func (b *chainBuilder) handler(block *config.Block) *step {
	name := block.Type
	if block.Label(0) != "" {
		name = block.Label(0)
	}
	b.handlers[name] = true
	merged, position := b.lay(name, block)
	scope := b.scope
	switch {
	case scope != "":
	case b.domain != nil:
		scope = b.domain.Name
	case merged != block:
		scope = tuning.Template
	}
	s := b.makeHandler(name, scope, merged)
	if s == nil {
		b.broken[name] = true
		return nil
	}
	s.plain, s.Position = block, position
	b.comesFrom(s, block, b.layers)
	if b.domain != nil && !b.keepsStage(s, block, merged) {
		b.broken[name] = true
		return nil
	}
	if s.Stages&domainKnown(b.feeds) != 0 {
		for i := range b.layers {
			if settings := b.layers[i].settings(name); settings != nil {
				b.tuning[settings] = true
			}
		}
	}
	return s
}

// keepsStage refuses settings of a domain that have a handler act before it is known
// whose settings hold: it would not act at all.
func (b *chainBuilder) keepsStage(s *step, block, merged *config.Block) bool {
	a, ok := merged.Attribute("stage")
	if own, has := block.Attribute("stage"); !ok || has && own == a || s.Stages&domainKnown(b.feeds) != 0 {
		return true
	}
	b.ds.Errorf(a.SrcRange, "domain/no-effect", "%s would not act at all for one domain", s.Name).
		WithDetail("At the stage %s it is not known yet whose settings hold. Write it into the handler's own block, or switch the handler off by enabled = false.", list(s.Stages.Names()))
	return false
}

func (b *chainBuilder) makeHandler(name, scope string, block *config.Block) *step {
	info, ok := b.find("handler", block.Type, block.TypeRange)
	if !ok {
		return nil
	}
	common, stages := new(handlerSettings), new(stageSettings)
	also := []any{common}
	if info.StageAttribute {
		also = append(also, stages)
	}
	if !b.settable(info, block) {
		return nil
	}
	m := b.one(info, block, b.context(name, b.listener), also...)
	if m == nil {
		return nil
	}
	h, ok := m.(Handler)
	if !ok {
		b.ds.Errorf(block.DefRange, "module/no-handler", "the module %s of this build is no handler", info.ID)
		return nil
	}
	s := &step{info: info, block: block}
	s.Name, s.Module, s.Handler, s.Target = name, info.Name(), h, info.Target
	s.Stages = b.stages(info, block, m, stages.Stage)
	if v, ok := m.(StageValidator); ok {
		b.ds.Append(v.ValidateStages(s.Stages).Diagnostics(block, info.ID))
	}
	s.Timeout = info.Timeout
	if common.Timeout != nil {
		s.Timeout = *common.Timeout
	}
	s.Monitor = common.Mode == "monitor"
	s.OnError = chain.Policy(slices.Index(chain.PolicyNames[:], common.OnError))
	if common.OnTimeout != "" {
		s.OnTimeout = new(chain.Policy(slices.Index(chain.PolicyNames[:], common.OnTimeout)))
	}
	s.Tally = b.tally(name, info.Name())
	b.condition(s, common.When)
	if s.off = !common.Enabled; s.off {
		b.gen.modules[len(b.gen.modules)-1].off = true
	}
	if info.Target {
		b.targetPolicy(s, common)
		return s
	}
	if !s.off {
		s.Breaker = b.breaker(name, info.Name(), scope)
	}
	return s
}

// settable refuses settings of the database that only the file can make: who may
// tune a domain must not choose what the server runs, reads or talks to. It is
// asked before the module sees them.
func (b *chainBuilder) settable(info Info, block *config.Block) bool {
	yes := true
	for _, setting := range config.Reference(reflect.TypeOf(info.New())) {
		a, ok := block.Attribute(setting.Name)
		if !ok || !setting.FileOnly || b.gen.settings.file.Has(a.SrcRange.Filename) {
			continue
		}
		yes = false
		b.ds.Errorf(a.NameRange, "domain/file-only", "%s of %s can be set in the file only", setting.Name, info.Name()).
			WithDetail("It decides what the server runs, reads or talks to. Write it into the file and reload.")
	}
	return yes
}

// targetPolicy refuses what would lose mail.
func (b *chainBuilder) targetPolicy(s *step, common *handlerSettings) {
	if s.off {
		b.incomplete = true // no target is left, and no news
		a, _ := s.block.Attribute("enabled")
		b.ds.Errorf(a.SrcRange, "chain/target-disabled", "%s delivers and cannot be switched off", s.Name).
			WithDetail("Without it no recipient is accepted. Remove it from the chain if another target stands there.")
	}
	if s.Monitor {
		r, _ := s.block.Attribute("mode")
		b.ds.Errorf(r.SrcRange, "chain/target-monitor", "%s delivers and cannot be monitored only", s.Name).
			WithDetail("Remove mode: what is only watched delivers nothing.")
	}
	if a, ok := s.block.Attribute("on_error"); ok && common.OnError == "continue" {
		b.ds.Errorf(a.SrcRange, "chain/target-error", "%s delivers: its error cannot be passed over", s.Name).
			WithDetail("Leave on_error out: the client is told to come back.")
	}
	if a, ok := s.block.Attribute("on_timeout"); ok && common.OnTimeout == "continue" {
		b.ds.Errorf(a.SrcRange, "chain/target-error", "%s delivers: it cannot be passed over when it gives no answer", s.Name).
			WithDetail("Leave on_timeout out: the client is told to come back.")
	}
}

// stages finds where a handler acts: by the file, by the module's own rule, or
// at all stages that it declares.
func (b *chainBuilder) stages(info Info, block *config.Block, m Module, chosen []string) mail.Stages {
	if len(chosen) == 0 {
		if d, ok := m.(StageChooser); ok {
			return d.DefaultStages()
		}
		if info.DefaultStages != 0 {
			return info.DefaultStages
		}
		return info.Stages
	}
	var stages mail.Stages
	for _, name := range chosen {
		stage, _ := mail.ParseStage(name)
		if !info.Stages.Has(stage) {
			a, _ := block.Attribute("stage")
			b.ds.Errorf(a.SrcRange, "chain/stage", "%s cannot act at the stage %q", info.Name(), name).
				WithDetail("It can act at: %s.", list(info.Stages.Names()))
		}
		stages |= mail.At(stage)
	}
	return stages
}

// condition compiles when.
func (b *chainBuilder) condition(s *step, when config.Expr) {
	if !when.IsSet() {
		return
	}
	compiled, ds := config.CompileWhen(s.block, when, s.Stages)
	b.ds.Append(ds)
	if compiled != nil {
		s.When, s.needs = compiled.Eval, compiled.Needs()
	}
}

// breaker gives the handler's circuit breaker, which outlives the configuration.
// scope is the domain whose settings or chain the handler is of, "" for the
// listener's own: a domain with a timeout that is too short, or with a backend of
// its own that is away, must not rest the handler for the others.
func (b *chainBuilder) breaker(name, module, scope string) *chain.Breaker {
	shared := breakerName(b.listener, name, module)
	if scope != "" {
		shared += breakerScope + scope
	}
	value, err := b.gen.share(shared, func() (closer, error) {
		return chain.NewBreaker(name, b.gen.runtime.log.Named("breaker")), nil
	})
	if err != nil {
		return nil
	}
	breaker, _ := value.(*chain.Breaker)
	return breaker
}

// tally gives the handler's counts, which outlive the configuration too.
func (b *chainBuilder) tally(name, module string) *chain.Tally {
	value, err := b.gen.share("tally "+b.listener+"/"+name+" "+module, func() (closer, error) {
		return chain.NewTally(b.listener, name, module, b.gen.runtime.log.Named(b.listener)), nil
	})
	if err != nil {
		return nil
	}
	tally, _ := value.(*chain.Tally)
	return tally
}

// compile makes the chain.
func (b *chainBuilder) compile(steps []*step) *chain.Chain {
	list := make([]*chain.Step, 0, len(steps))
	for _, s := range active(steps) {
		list = append(list, &s.Step)
	}
	return chain.New(list, chain.Options{Logger: b.log, Now: b.gen.runtime.now})
}

// active gives the steps without the handlers that are disabled.
func active(steps []*step) []*step {
	if !slices.ContainsFunc(steps, func(s *step) bool { return s.off || s.parallel != nil }) {
		return steps
	}
	out := make([]*step, 0, len(steps))
	for _, s := range steps {
		switch {
		case s.parallel != nil:
			if s = s.withParallel(active(s.parallel)); len(s.parallel) > 0 {
				out = append(out, s)
			}
		case !s.off:
			out = append(out, s)
		}
	}
	return out
}

// flat gives the handlers, those of parallel blocks among them.
func flat(steps []*step) []*step {
	if !slices.ContainsFunc(steps, func(s *step) bool { return s.parallel != nil }) {
		return steps
	}
	var list []*step
	for _, s := range steps {
		if s.parallel != nil {
			list = append(list, s.parallel...)
		} else {
			list = append(list, s)
		}
	}
	return list
}
