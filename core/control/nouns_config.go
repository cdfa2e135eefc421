package control

import (
	"context"

	"github.com/mox-like/mox-like/core/effective"
)

// Configuration is the operation that looks at the configuration as it holds.
type Configuration interface {
	// EffectiveConfig describes the configuration in force, or the one that would be
	// where no server runs, with the settings of the database in it. ErrInvalid if it
	// has no such domain or listener, ErrRefused if the file has errors.
	EffectiveConfig(ctx context.Context, q effective.Query) (*effective.Config, error)
}
