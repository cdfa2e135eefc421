package core

import "github.com/mox-like/mox-like/core/config"

// Explainer is a module that has pages about diagnostics of its own, for 'validate
// --explain'. It is asked on the empty value that New gives. The codes are the
// module's ID, which its Problems have where they name none, or begin with its name
// and a slash: "sieve/bad-script" for handler.sieve.
type Explainer interface {
	Pages() []config.Page
}
