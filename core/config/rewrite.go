package config

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// rewrite gives the expression with its constant parts evaluated and with plain
// variables in the place of tx's names. The original stays as it is.
func (c *compiler) rewrite(expr hclsyntax.Expression) hclsyntax.Expression {
	if isConstant(expr) {
		return c.fold(expr)
	}
	switch e := expr.(type) {
	case *hclsyntax.ParenthesesExpr:
		return c.rewrite(e.Expression)
	case *hclsyntax.TemplateWrapExpr:
		return c.rewrite(e.Wrapped)
	case *hclsyntax.ScopeTraversalExpr:
		if e.Traversal.RootName() == "tx" {
			return c.input(e)
		}
		return e
	case *hclsyntax.IndexExpr:
		return c.rewriteIndex(e)
	case *hclsyntax.FunctionCallExpr:
		return c.rewriteCall(e)
	case *hclsyntax.BinaryOpExpr:
		return c.rewriteBinary(e)
	case *hclsyntax.UnaryOpExpr:
		out := *e
		out.Val = c.rewrite(e.Val)
		if e.Op == hclsyntax.OpLogicalNot {
			c.needBool(out.Val)
		}
		return &out
	case *hclsyntax.ConditionalExpr:
		out := *e
		out.Condition, out.TrueResult, out.FalseResult = c.rewrite(e.Condition), c.rewrite(e.TrueResult), c.rewrite(e.FalseResult)
		c.needBool(out.Condition)
		return &out
	default:
		return c.rewriteCompound(expr)
	}
}

// rewriteCompound is rewrite for what has other expressions as its elements.
func (c *compiler) rewriteCompound(expr hclsyntax.Expression) hclsyntax.Expression {
	switch e := expr.(type) {
	case *hclsyntax.TemplateExpr:
		out := *e
		out.Parts = c.rewriteAll(e.Parts)
		return &out
	case *hclsyntax.TupleConsExpr:
		out := *e
		out.Exprs = c.rewriteAll(e.Exprs)
		return &out
	case *hclsyntax.ObjectConsExpr:
		out := *e
		out.Items = slices.Clone(e.Items)
		for i := range out.Items {
			out.Items[i].ValueExpr = c.rewrite(e.Items[i].ValueExpr)
		}
		return &out
	case *hclsyntax.RelativeTraversalExpr:
		out := *e
		out.Source = c.rewrite(e.Source)
		return &out
	case *hclsyntax.ForExpr:
		out := *e
		out.CollExpr, out.ValExpr = c.rewrite(e.CollExpr), c.rewrite(e.ValExpr)
		if e.KeyExpr != nil {
			out.KeyExpr = c.rewrite(e.KeyExpr)
		}
		if e.CondExpr != nil {
			out.CondExpr = c.rewrite(e.CondExpr)
		}
		return &out
	case *hclsyntax.SplatExpr:
		out := *e
		out.Source = c.rewrite(e.Source)
		return &out
	default:
		return expr
	}
}

func (c *compiler) rewriteAll(list []hclsyntax.Expression) []hclsyntax.Expression {
	out := make([]hclsyntax.Expression, len(list))
	for i, e := range list {
		out[i] = c.rewrite(e)
	}
	return out
}

// isConstant tells whether nothing but variables of the file goes in.
func isConstant(expr hclsyntax.Expression) bool {
	return !slices.ContainsFunc(expr.Variables(), func(t hcl.Traversal) bool { return t.RootName() != "var" })
}

// fold evaluates a constant part.
func (c *compiler) fold(expr hclsyntax.Expression) hclsyntax.Expression {
	value, ds := c.env.evaluate(expr, []string{})
	c.ds.Append(ds)
	value, _ = value.UnmarkDeep()
	return &hclsyntax.LiteralValueExpr{Val: value, SrcRange: expr.Range()}
}

// rewriteIndex takes tx.header[…] with a key that is an expression.
func (c *compiler) rewriteIndex(e *hclsyntax.IndexExpr) hclsyntax.Expression {
	from, ok := e.Collection.(*hclsyntax.ScopeTraversalExpr)
	if !ok || from.Traversal.RootName() != "tx" {
		out := *e
		out.Collection, out.Key = c.rewrite(e.Collection), c.rewrite(e.Key)
		return &out
	}
	if !isConstant(e.Key) {
		c.ds.Errorf(e.Key.Range(), "expr/not-constant", "the name of a header field must be constant").
			WithDetail(`Write it as tx.header["Subject"].`)
		return e
	}
	key := c.fold(e.Key).(*hclsyntax.LiteralValueExpr)
	steps := append(slices.Clone(from.Traversal), hcl.TraverseIndex{Key: key.Val, SrcRange: e.BracketRange})
	return c.input(&hclsyntax.ScopeTraversalExpr{Traversal: steps, SrcRange: e.SrcRange})
}

// constantArguments are arguments that must not come from a stranger.
var constantArguments = map[string]func(i int) bool{
	"env":           func(int) bool { return true },
	"file":          func(int) bool { return true },
	"matches":       func(i int) bool { return i == 1 },
	"cidr_contains": func(i int) bool { return i == 0 },
}

func (c *compiler) rewriteCall(e *hclsyntax.FunctionCallExpr) hclsyntax.Expression {
	if must, ok := constantArguments[e.Name]; ok {
		for i, arg := range e.Args {
			if must(i) && !isConstant(arg) {
				c.ds.Errorf(arg.Range(), "expr/not-constant", "this argument of %s must be constant", e.Name).
					WithDetail("It must not depend on tx, since it would come from a stranger.")
				return e
			}
		}
	}
	out := *e
	out.Args = c.rewriteAll(e.Args)
	return &out
}

func (c *compiler) rewriteBinary(e *hclsyntax.BinaryOpExpr) hclsyntax.Expression {
	out := *e
	out.LHS, out.RHS = c.rewrite(e.LHS), c.rewrite(e.RHS)
	switch e.Op {
	case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr:
		c.needBool(out.LHS)
		c.needBool(out.RHS)
	case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
		c.prepareComparison(&out)
	case hclsyntax.OpLessThan, hclsyntax.OpLessThanOrEqual, hclsyntax.OpGreaterThan, hclsyntax.OpGreaterThanOrEqual:
		c.prepareComparison(&out)
		if c.typeOf(out.LHS) == cty.String && c.typeOf(out.RHS) == cty.String {
			c.ds.Errorf(e.SrcRange, "expr/wrong-type", "strings have no order").
				WithDetail("Numbers have one; strings can be equal (==) or match a pattern (matches).")
		}
	}
	return &out
}

// prepareComparison makes sizes into numbers and holds the types of the sides
// against each other.
func (c *compiler) prepareComparison(e *hclsyntax.BinaryOpExpr) {
	e.LHS, e.RHS = sizeFor(e.LHS, e.RHS), sizeFor(e.RHS, e.LHS)
	left, right := c.typeOf(e.LHS), c.typeOf(e.RHS)
	if left.IsPrimitiveType() && right.IsPrimitiveType() && left != right {
		c.ds.Errorf(e.SrcRange, "expr/wrong-type", "a %s is compared with a %s", left.FriendlyName(), right.FriendlyName()).
			WithDetail("They are never equal. %s", comparisonHint(left, right))
	}
}

// needBool holds an operand against what and, or, not and ? take.
func (c *compiler) needBool(e hclsyntax.Expression) {
	if t := c.typeOf(e); t.IsPrimitiveType() && t != cty.Bool {
		c.ds.Errorf(e.Range(), "expr/wrong-type", "here stands a %s, where true or false is needed", t.FriendlyName()).
			WithDetail("Compare it with something, such as tx.user != \"\".")
	}
}

func comparisonHint(left, right cty.Type) string {
	switch cty.String {
	case left, right:
	default:
		return "Compare values of one type."
	}
	if left == cty.Bool || right == cty.Bool {
		return "true and false stand without quotes."
	}
	return fmt.Sprintf("Numbers stand without quotes; sizes such as %q can be compared with tx.size.", "25MB")
}

// sizeFor gives expr as a number of bytes if it is a size that tx.size is
// compared with.
func sizeFor(expr, other hclsyntax.Expression) hclsyntax.Expression {
	literal, ok := expr.(*hclsyntax.LiteralValueExpr)
	if !ok || inputName(other) != "tx.size" || literal.Val.Type() != cty.String || literal.Val.IsNull() || !literal.Val.IsKnown() {
		return expr
	}
	size, err := ParseSize(literal.Val.AsString())
	if err != nil {
		return expr
	}
	return &hclsyntax.LiteralValueExpr{Val: cty.NumberIntVal(int64(size)), SrcRange: literal.SrcRange}
}

// typeOf gives the type of a rewritten part, the dynamic one if it shows only
// at run time.
func (c *compiler) typeOf(expr hclsyntax.Expression) cty.Type {
	value, hds := expr.Value(c.unknown(expr.Range().Filename))
	if hds.HasErrors() {
		return cty.DynamicPseudoType
	}
	return value.Type()
}

// inputName gives the name of the input that a rewritten expression is, "" if
// it is another.
func inputName(expr hclsyntax.Expression) string {
	e, ok := expr.(*hclsyntax.ScopeTraversalExpr)
	if !ok || len(e.Traversal) != 1 {
		return ""
	}
	return e.Traversal.RootName()
}
