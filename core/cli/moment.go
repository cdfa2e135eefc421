package cli

import (
	"errors"
	"time"

	"github.com/mox-like/mox-like/core/config"
)

// instant is the value of a flag that names a moment: as far back as a duration, or
// a date, with a time or without, in the machine's time zone unless it names one.
type instant struct {
	text string
	at   time.Time
}

// Set implements pflag.Value.
func (i *instant) Set(text string) error {
	if text == "" {
		*i = instant{}
		return nil
	}
	if ago, err := config.ParseDuration(text); err == nil {
		if ago < 0 {
			return errors.New("it is in the future; write how long ago it was, as 2h or 7d")
		}
		*i = instant{text, time.Now().Add(-ago)}
		return nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			*i = instant{text, at}
			return nil
		}
	}
	return errors.New("write how long ago, as 2h or 7d, or a time, as 2026-11-25, '2026-11-25 14:05' or 2026-11-25T14:05:09Z")
}

// String gives the flag as it was written.
func (i *instant) String() string { return i.text }

// Type is what the help calls the value.
func (*instant) Type() string { return "time" }
