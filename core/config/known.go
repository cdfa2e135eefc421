package config

import "github.com/hashicorp/hcl/v2/hclsyntax"

// Known tells whether all values of a block are known, those of nested blocks too.
// They are but for Options.Offline, and after a mistake. Conditions, which are
// evaluated for each message, and the handlers of a chain, which have blocks of their
// own, are not looked at.
func (b *Block) Known() bool { return b.environment().known(b.Body) }

func (e *environment) known(body *hclsyntax.Body) bool {
	for name, a := range body.Attributes {
		if name == "when" {
			continue
		}
		if value, hds := a.Expr.Value(e.scope(a.SrcRange.Filename)); hds.HasErrors() || !value.IsWhollyKnown() {
			return false
		}
	}
	for _, nested := range body.Blocks {
		if nested.Type != "chain" && !e.known(nested.Body) {
			return false
		}
	}
	return true
}
