package totp

import (
	"slices"

	"github.com/mox-like/mox-like/core"
)

// ValidatePlace refuses a place in front of password: nobody could log in, since
// there is no user yet whose code could be asked for.
func (*TOTP) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	if slices.Contains(modules[place:], "password") && !slices.Contains(modules[:place], "password") {
		problems.Errorf("", "totp stands in front of password, where nobody is known yet: every login would be refused; write it behind password")
	}
	return problems
}

var _ core.PlaceValidator = (*TOTP)(nil)
