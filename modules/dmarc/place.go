package dmarc

import (
	"slices"

	"github.com/mox-like/mox-like/core"
)

// ValidatePlace warns of a chain without SPF, which acts at earlier stages, and of a
// place that is not behind DKIM: without the results of both no message fails.
func (*DMARC) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	spf := slices.Contains(modules, "spf")
	dkim := slices.Contains(modules[:place], "dkim_verify")
	switch {
	case !spf && !dkim:
		problems.Warnf("", "dmarc has nothing to judge by, so that no message passes or fails; write spf and dkim_verify in front of it")
	case !spf:
		problems.Warnf("", "dmarc stands in a chain without spf, so that no message fails; write spf in front of it")
	case !dkim:
		problems.Warnf("", "dmarc stands behind no dkim_verify, so that no message fails; write dkim_verify in front of it")
	}
	return problems
}

var _ core.PlaceValidator = (*DMARC)(nil)
