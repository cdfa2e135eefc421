package bruteforce

import (
	"slices"

	"github.com/mox-like/mox-like/core"
)

// ValidatePlace warns of a place behind password, where it counts but passwords
// are hashed before a blocked network is refused.
func (*Bruteforce) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	if slices.Contains(modules[:place], "password") {
		problems.Warnf("", "bruteforce stands behind password: passwords of blocked networks are hashed all the same; write it in front of password")
	}
	return problems
}

var _ core.PlaceValidator = (*Bruteforce)(nil)
