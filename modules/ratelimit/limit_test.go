package ratelimit

import (
	"strings"
	"testing"
	"time"
)

func TestParseLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Limit{
		"100/1h":     {N: 100, Window: time.Hour},
		"5/h":        {N: 5, Window: time.Hour},
		"500MB/1h":   {N: 488282, Window: time.Hour, Size: 500e6},
		"1KiB/s":     {N: 1, Window: time.Second, Size: 1 << 10},
		"10 MiB/1d":  {N: 10 << 10, Window: 24 * time.Hour, Size: 10 << 20},
		"1TiB/366d":  {N: 1 << 30, Window: maxWindow, Size: 1 << 40},
		"2048b/1m1s": {N: 2, Window: 61 * time.Second, Size: 2048},
	} {
		var got Limit
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
		var again Limit
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != got {
			t.Errorf("%s is written as %s, which is %+v, %v", text, got, again, err)
		}
	}
	for text, want := range map[string]string{
		"":          "a rate is",
		"100":       "a rate is",
		"0/1h":      "at least 1",
		"1MB":       "a rate is",
		"MB/1h":     "a size is",
		"1XB/1h":    "units of a size",
		"1B/1h":     "between 1KiB and 1TiB",
		"1023B/1h":  "between 1KiB and 1TiB",
		"2TiB/1h":   "between 1KiB and 1TiB",
		"500MB/":    "500MB/1h",
		"500MB/x":   "500MB/1h",
		"-500MB/1h": "a size is",
	} {
		var got Limit
		if err := got.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, error %v, want one with %q", text, got, err, want)
		}
	}
}
