package core

import "github.com/mox-like/mox-like/core/store"

// StoreOf gives the store of a host, for tests that take it away.
func StoreOf(h Host) *store.Store { return h.host().store }
