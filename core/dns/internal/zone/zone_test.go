package zone_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/dns/internal/zone"
)

// TestBounds finds that a text cannot stand for more than it is worth.
func TestBounds(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("a.", 115)
	var names strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&names, "%s%d A 192.0.2.1\n", deep, i)
	}
	var long strings.Builder
	fmt.Fprintf(&long, "$ORIGIN %s.\n", strings.Repeat(strings.Repeat("x", 60)+".", 3)+"example")
	for i := range 90_000 {
		fmt.Fprintf(&long, "a%d A 192.0.2.1\n", i)
	}
	for name, c := range map[string]struct{ text, says string }{
		"$GENERATE":            {"$GENERATE 1-65535 " + deep + "$ A 192.0.2.1\n", "$GENERATE"},
		"in small letters":     {"a A 192.0.2.1\n$generate 1-3 a$ A 192.0.2.1\n", "$GENERATE"},
		"with a CR inside":     {"$GEN\rERATE 1-3 a$ A 192.0.2.1\n", "$GENERATE"},
		"with brackets inside": {"$GEN(ER)ATE 1-3 a$ A 192.0.2.1\n", "$GENERATE"},
		"records":              {strings.Repeat("a A 192.0.2.1\n", 100_001), "more than 100000 records"},
		"names":                {names.String(), "more than 200000 names"},
		"bytes":                {long.String(), "more than 16777216 bytes"},
		"another file":         {"$INCLUDE /etc/passwd\n", "$INCLUDE"},
	} {
		if _, err := zone.Parse(t.Context(), c.text); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// counted ends after it was asked a few times.
type counted struct {
	context.Context //nolint:containedctx // it is one
	left            int
}

func (c *counted) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestParseEnds finds that the caller's end is the end of reading, even within one
// record.
func TestParseEnds(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"records":    strings.Repeat("a A 192.0.2.1\n", 90_000),
		"one record": "a TXT (" + strings.Repeat(";\n", 1<<18),
	} {
		ctx := &counted{Context: t.Context(), left: 3}
		if _, err := zone.Parse(ctx, text); !errors.Is(err, context.Canceled) || ctx.left < -3 {
			t.Errorf("%s: %v, asked %d times more", name, err, -ctx.left)
		}
	}
}
