package ratelimit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/config"
)

// Limit is how much may pass in a time: "100/1h" are events, "500MB/1h" bytes.
type Limit struct {
	// N is the number of events, or of units of 1 KiB, at least 1.
	N int
	// Window is the time.
	Window time.Duration
	// Size is the number of bytes, 0 for a number of events.
	Size config.Size
}

// unit is in what bytes are counted, so that a counter holds all sizes. Messages
// are rounded up.
const unit = 1 << 10

// maxSize keeps sums of units in 32 bits.
const maxSize = 1 << 40

// units gives the units of a size, at least one.
func units(size int64) int { return int((max(size, 1) + unit - 1) / unit) }

// UnmarshalText reads a limit as the file writes it.
func (l *Limit) UnmarshalText(text []byte) error {
	amount, window, ok := strings.Cut(string(text), "/")
	if !ok || !strings.HasSuffix(strings.ToUpper(amount), "B") {
		rate, err := config.ParseRate(string(text))
		*l = Limit{N: rate.N, Window: rate.Window}
		return err
	}
	size, err := config.ParseSize(strings.TrimSpace(amount))
	switch {
	case err != nil:
		return err
	case size < unit || size > maxSize:
		return fmt.Errorf("the size of a limit is between %s and %s", config.Size(unit), config.Size(maxSize))
	}
	rate, err := config.ParseRate("1/" + window)
	if err != nil {
		return errors.New(`a limit of bytes is a size and a time, such as "500MB/1h"`)
	}
	*l = Limit{N: units(int64(size)), Window: rate.Window, Size: size}
	return nil
}

// String gives the form that UnmarshalText reads.
func (l Limit) String() string {
	if l.Size > 0 {
		return l.Size.String() + "/" + config.FormatDuration(l.Window)
	}
	return config.Rate{N: l.N, Window: l.Window}.String()
}

// MarshalText is String.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// amount says how much has been counted.
func (l Limit) amount(used int) string {
	if l.Size > 0 {
		return (config.Size(used) * unit).String()
	}
	return strconv.Itoa(used)
}
