package mailbox

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"
)

func TestListLimit(t *testing.T) {
	t.Parallel()
	a := open(t, newService(t), alice)
	patterns := slices.Repeat([]string{"x"}, maxPatterns-1)
	same(t, "mailboxes", []string{`Trash \Trash`}, names(t, a, nil, append(patterns, "T*")...))
	if _, err := a.List(t.Context(), "", append(patterns, "x", "x"), nil); code(err) != imap.ResponseCodeLimit {
		t.Errorf("%d patterns: %v", maxPatterns+1, err)
	}
}

// TestListEnds: the context is looked at between names.
func TestListEnds(t *testing.T) {
	t.Parallel()
	a := open(t, newService(t), alice)
	looks := 1000
	_, err := a.List(endingContext{t.Context(), &looks}, "", []string{"*"}, nil)
	must(t, err)
	left := 1000 - looks - 1 // one fewer than it takes
	if _, err := a.List(endingContext{t.Context(), &left}, "", []string{"*"}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("list gave %v", err)
	}
}
