package greylist

import (
	"slices"

	"github.com/mox-like/mox-like/core"
)

// ValidatePlace warns of a place in front of those that vouch for clients.
func (*Greylist) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	for _, module := range []string{"spf", "dnsbl"} {
		if slices.Contains(modules[place:], module) && !slices.Contains(modules[:place], module) {
			problems.Warnf("", "greylist stands in front of %s, and does not learn for whom that vouches; write it behind %s", module, module)
		}
	}
	return problems
}

var _ core.PlaceValidator = (*Greylist)(nil)
