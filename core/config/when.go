package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/mox-like/mox-like/core/mail"
)

// input is a name that a condition can use.
type input struct {
	// since is the first stage at which it is known.
	since mail.Stage
	// after is the module whose handler finds it out, "" if none has to.
	after string
	// One of these gives the value.
	text   func(*mail.Transaction) string
	number func(*mail.Transaction) int64
	truth  func(*mail.Transaction) bool
}

// inputs are the names that stand after tx, but for header.
var inputs = map[string]input{
	"ip":          {since: mail.StageConnect, text: clientIP},
	"listener":    {since: mail.StageConnect, text: func(tx *mail.Transaction) string { return tx.Session.Listener }},
	"tls":         {since: mail.StageConnect, truth: func(tx *mail.Transaction) bool { return tx.Session.TLS != nil }},
	"helo":        {since: mail.StageHelo, text: func(tx *mail.Transaction) string { return tx.Session.Helo }},
	"user":        {since: mail.StageAuth, text: user},
	"from":        {since: mail.StageMail, text: func(tx *mail.Transaction) string { return tx.Envelope.ReversePath.String() }},
	"from_domain": {since: mail.StageMail, text: func(tx *mail.Transaction) string { return tx.Envelope.ReversePath.Domain }},
	"size":        {since: mail.StageMail, number: size},
	"rcpt":        {since: mail.StageRcpt, text: recipient},
	"score":       {since: mail.StageConnect, number: func(tx *mail.Transaction) int64 { return int64(math.Floor(tx.Score())) }},
	"spf":         {since: mail.StageMail, after: "spf", text: result("spf")},
	"dkim":        {since: mail.StageData, after: "dkim_verify", text: result("dkim")},
	"dmarc":       {since: mail.StageData, after: "dmarc", text: result("dmarc")},
}

// result gives an input with what a method of authentication found: pass if one of
// several results is, else the first of them, "" while there is none.
func result(method string) func(*mail.Transaction) string {
	return func(tx *mail.Transaction) string {
		first := ""
		for _, r := range tx.AuthResults() {
			switch {
			case r.Method != method:
			case r.Result == "pass":
				return r.Result
			case first == "":
				first = r.Result
			}
		}
		return first
	}
}

// synonyms are words for the inputs that people try, with what stands after tx.
var synonyms = map[string]string{
	"sender": "from", "mail_from": "from", "reverse_path": "from", "return_path": "from",
	"domain": "from_domain", "sender_domain": "from_domain",
	"recipient": "rcpt", "to": "rcpt", "rcpt_to": "rcpt",
	"addr": "ip", "address": "ip", "client_ip": "ip", "remote_ip": "ip", "remote_addr": "ip",
	"ehlo":     "helo",
	"username": "user", "login": "user",
	"length": "size", "secure": "tls", "encrypted": "tls",
	"subject": `header["Subject"]`, "headers": `header["…"]`,
}

// meantInput gives what was probably meant by a name, with tx in front, "" if
// nothing is near.
func meantInput(name string) string {
	near, ok := synonyms[foldName(name)]
	if !ok {
		near = Suggest(name, append(slices.Sorted(maps.Keys(inputs)), headerName))
	}
	if near == "" {
		return ""
	}
	return "tx." + near
}

// headerName is the name after tx that takes a header field's name.
const headerName = "header"

func clientIP(tx *mail.Transaction) string {
	addr := tx.Session.RemoteAddr.Addr().Unmap()
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// user gives who has logged in. While that is going on it is whom a handler has
// found to be in the right, else whom the client claims to be.
func user(tx *mail.Transaction) string {
	switch {
	case tx.Session.User != "":
		return tx.Session.User
	case tx.Authenticated() != "":
		return tx.Authenticated()
	case tx.Credentials != nil:
		if a, err := mail.ParseAddress(tx.Credentials.Username); err == nil {
			return a.Fold().String()
		}
		return tx.Credentials.Username
	}
	return ""
}

// size gives the message's size, or the one that the client declared as long
// as the message is not there.
func size(tx *mail.Transaction) int64 {
	if tx.Message != nil {
		return tx.Message.Size
	}
	return tx.Envelope.Size
}

// recipient gives the recipient in question, or the first of the envelope.
func recipient(tx *mail.Transaction) string {
	switch {
	case tx.Recipient != nil:
		return tx.Recipient.Address.String()
	case len(tx.Envelope.Recipients) > 0:
		return tx.Envelope.Recipients[0].Address.String()
	}
	return ""
}

// headerField gives an input with the value of the first field of a name.
func headerField(name string) input {
	return input{since: mail.StageData, text: func(tx *mail.Transaction) string {
		if tx.Message == nil {
			return ""
		}
		return tx.Message.Header.Get(name)
	}}
}

func (in input) typ() cty.Type {
	switch {
	case in.text != nil:
		return cty.String
	case in.number != nil:
		return cty.Number
	default:
		return cty.Bool
	}
}

func (in input) value(tx *mail.Transaction) cty.Value {
	switch {
	case in.text != nil:
		return cty.StringVal(in.text(tx))
	case in.number != nil:
		return cty.NumberIntVal(in.number(tx))
	default:
		return cty.BoolVal(in.truth(tx))
	}
}

// When is a condition on the transaction. What does not depend on it (files,
// variables, patterns) is evaluated when the condition is compiled. It is safe
// for concurrent use.
//
// The names are known from these stages on: tx.ip, tx.listener and tx.tls from
// connect; tx.helo from helo; tx.user from auth, where it is the name that the
// client gives until a handler has proved it; tx.from (the reverse-path),
// tx.from_domain and tx.size (declared, at data the real one) from mail; tx.rcpt
// from rcpt, at data the first recipient; tx.header["Name"] (the first field of
// that name, "" if there is none) at data. tx.score is the sum of the points so
// far, rounded down. tx.spf is known behind a handler of the module spf, tx.dkim
// (pass if one signature is good) behind dkim_verify and tx.dmarc behind dmarc.
type When struct {
	holds condition
	needs []Need
}

// Need is a name in a condition that is known only behind a certain handler.
type Need struct {
	// Name is the name, such as tx.spf, and Range its place.
	Name  string
	Range hcl.Range
	// Module is the name of the handler's module.
	Module string
}

// Needs gives the names that are known only behind certain handlers, in the order
// of the expression. The caller, who knows the chain, checks them.
func (w *When) Needs() []Need { return w.needs }

// Eval tells whether the condition holds. An error means that a value was not
// fit for what the expression does with it.
func (w *When) Eval(tx *mail.Transaction) (bool, error) { return w.holds(tx) }

// CompileWhen compiles an expression of a block for a handler that acts at the
// stages; 0 leaves the stages unchecked. An expression that says the same for
// every message is a warning, unless a variable decides. After errors the
// When is nil.
func CompileWhen(b *Block, e Expr, stages mail.Stages) (*When, Diagnostics) {
	c := &compiler{env: b.environment(), stages: stages, used: make(map[string]input)}
	source, ok := e.Expression.(hclsyntax.Expression)
	if !ok {
		c.ds.Errorf(b.DefRange, "expr/invalid", "%s has no expression to evaluate", b.Header())
		return nil, c.ds
	}
	for _, t := range source.Variables() {
		c.checkName(t)
	}
	expr := c.rewrite(source)
	if c.ds.HasErrors() {
		return nil, c.ds
	}
	c.check(source, expr)
	if c.ds.HasErrors() {
		return nil, c.ds
	}
	return &When{holds: c.truth(expr), needs: c.needs}, c.ds
}

// checkName holds a name of the expression against those that there are.
func (c *compiler) checkName(t hcl.Traversal) {
	root := t.RootName()
	_, exact := inputs[root]
	if _, ok := synonyms[root]; ok || exact || root == headerName {
		c.ds.Errorf(t.SourceRange(), "expr/unknown-name", "%s is not a name that is known here", root).
			WithDetail("Did you mean %s?", meantInput(root))
		return
	}
	if root != "tx" && root != "var" {
		c.ds.Append(c.env.checkName(t, []string{}))
	}
}

// compiler turns one expression into a condition.
type compiler struct {
	env    *environment
	stages mail.Stages
	// used are the inputs of the expression by the name of the variable that
	// stands for them.
	used  map[string]input
	needs []Need
	ds    Diagnostics
}

// unknown gives a scope in which the inputs have types but no values.
func (c *compiler) unknown(filename string) *hcl.EvalContext {
	ctx := c.env.scope(filename).NewChild()
	ctx.Variables = make(map[string]cty.Value, len(c.used))
	for name, in := range c.used {
		ctx.Variables[name] = cty.UnknownVal(in.typ()).RefineNotNull()
	}
	return ctx
}

// check holds the whole expression against what it must give.
func (c *compiler) check(source, expr hclsyntax.Expression) {
	at := source.Range()
	value, hds := expr.Value(c.unknown(at.Filename))
	if hds.HasErrors() {
		c.ds.Append(FromHCL("expr/invalid", hds))
		return
	}
	value, _ = value.UnmarkDeep()
	dynamic := value.Type() == cty.DynamicPseudoType && !value.IsKnown()
	if value.Type() != cty.Bool && !dynamic || value.IsKnown() && value.IsNull() {
		c.ds.Errorf(at, "expr/wrong-type", "when must be true or false").
			WithDetail("Here stands %s. Compare it with something, such as tx.user != \"\".", kindOf(value))
		return
	}
	if value.IsKnown() && !dependsOnVariable(source) {
		way := "Remove it: the handler runs for every message."
		if value.False() {
			way = "The handler never runs. Remove the handler, or correct the condition."
		}
		c.ds.Warnf(at, "chain/constant-when", "when is always %t", value.True()).WithDetail("%s", way)
	}
}

// dependsOnVariable tells whether a variable decides: then it is a switch, and
// not a slip, that the expression is constant.
func dependsOnVariable(expr hclsyntax.Expression) bool {
	return slices.ContainsFunc(expr.Variables(), func(t hcl.Traversal) bool { return t.RootName() == "var" })
}

// input gives the variable that stands for a name after tx.
func (c *compiler) input(e *hclsyntax.ScopeTraversalExpr) hclsyntax.Expression {
	name, ok := stepName(e.Traversal, 1)
	if !ok {
		c.ds.Errorf(e.SrcRange, "expr/unknown-name", "tx needs a name").WithDetail("Its names are %s.", c.names())
		return e
	}
	if name == headerName {
		field, ok := stepName(e.Traversal, 2)
		if !ok {
			c.ds.Errorf(e.SrcRange, "expr/unknown-name", "tx.header needs the name of a field").
				WithDetail(`Write it as tx.header["Subject"].`)
			return e
		}
		return c.use(e.SrcRange, fmt.Sprintf("tx.header[%q]", field), headerField(field), e.Traversal[3:])
	}
	in, ok := inputs[name]
	if !ok {
		way := fmt.Sprintf("Its names are %s.", c.names())
		if near := meantInput(name); near != "" {
			way = fmt.Sprintf("Did you mean %s? %s", near, way)
		}
		c.ds.Errorf(e.SrcRange, "expr/unknown-name", "tx has no %q", name).WithDetail("%s", way)
		return e
	}
	return c.use(e.SrcRange, "tx."+name, in, e.Traversal[2:])
}

// use notes an input and holds it against the stages.
func (c *compiler) use(at hcl.Range, name string, in input, rest hcl.Traversal) hclsyntax.Expression {
	if _, again := c.used[name]; !again {
		c.used[name] = in
		c.checkStages(at, name, in)
		if in.after != "" {
			c.needs = append(c.needs, Need{Name: name, Range: at, Module: in.after})
		}
	}
	steps := append(hcl.Traversal{hcl.TraverseRoot{Name: name, SrcRange: at}}, rest...)
	return &hclsyntax.ScopeTraversalExpr{Traversal: steps, SrcRange: at}
}

func (c *compiler) checkStages(at hcl.Range, name string, in input) {
	var early, fit mail.Stages
	for s := range mail.Stage(mail.NumStages) {
		switch {
		case !c.stages.Has(s):
		case s < in.since:
			early |= mail.At(s)
		default:
			fit |= mail.At(s)
		}
	}
	if early == 0 {
		return
	}
	way := "What is known at all of them: " + c.names() + "."
	if fit != 0 {
		way = fmt.Sprintf("Let the handler act at %s only (stage = %q).", strings.Join(fit.Names(), " or "), fit.Names()[0])
	}
	c.ds.Errorf(at, "expr/not-yet-known", "%s is not yet known at the stage %s", name, strings.Join(early.Names(), ", ")).
		WithDetail("It is known from the stage %s on, and the handler acts at %s. %s",
			in.since, strings.Join(c.stages.Names(), ", "), way)
}

// names lists what is known at all stages of the handler.
func (c *compiler) names() string {
	var known []string
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if c.knownThroughout(inputs[name].since) {
			known = append(known, "tx."+name)
		}
	}
	if c.knownThroughout(mail.StageData) {
		known = append(known, `tx.header["…"]`)
	}
	return strings.Join(known, ", ")
}

func (c *compiler) knownThroughout(since mail.Stage) bool {
	for s := range since {
		if c.stages.Has(s) {
			return false
		}
	}
	return true
}

// errNotBool is returned when an expression whose type shows only at run time
// turns out to be neither true nor false.
var errNotBool = errors.New("the value is neither true nor false")

// interpret gives a condition that HCL evaluates.
func (c *compiler) interpret(expr hclsyntax.Expression) condition {
	used := make(map[string]input)
	for _, t := range expr.Variables() {
		if in, ok := c.used[t.RootName()]; ok {
			used[t.RootName()] = in
		}
	}
	scope := c.env.scope(expr.Range().Filename)
	contexts := sync.Pool{New: func() any {
		ctx := scope.NewChild()
		ctx.Variables = make(map[string]cty.Value, len(used))
		return ctx
	}}
	return func(tx *mail.Transaction) (bool, error) {
		ctx := contexts.Get().(*hcl.EvalContext)
		defer contexts.Put(ctx)
		for name, in := range used {
			ctx.Variables[name] = in.value(tx)
		}
		value, hds := expr.Value(ctx)
		if hds.HasErrors() {
			return false, FromHCL("expr/invalid", hds).Err()
		}
		value, _ = value.Unmark()
		if value.Type() != cty.Bool || value.IsNull() || !value.IsKnown() {
			return false, errNotBool
		}
		return value.True(), nil
	}
}
