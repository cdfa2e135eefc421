package config_test

import (
	"math"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/config"
)

func TestParseSize(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want config.Size
		form string
	}{
		{"0", 0, "0B"},
		{"1", 1, "1B"},
		{"512 B", 512, "512B"},
		{"25MB", 25_000_000, "25MB"},
		{"25mb", 25_000_000, "25MB"},
		{"1000KB", 1_000_000, "1MB"},
		{"1KiB", 1024, "1KiB"},
		{"1GiB", 1 << 30, "1GiB"},
		{"2TiB", 2 << 40, "2TiB"},
		{"3TB", 3e12, "3TB"},
		{"9223372036854775807", math.MaxInt64, "9223372036854775807B"},
	}
	for _, test := range tests {
		got, err := config.ParseSize(test.text)
		if err != nil || got != test.want || got.String() != test.form {
			t.Errorf("%q: got %d (%s), %v; want %d (%s)", test.text, got, got, err, test.want, test.form)
		}
	}
	for _, text := range []string{"", "MB", "-1", "1.5MB", "1XB", "1  MB", "1MB ", " 1MB", "9223372036854775808", "9223372036854775807KB", "1M"} {
		if got, err := config.ParseSize(text); err == nil {
			t.Errorf("%q: got %d and no error", text, got)
		}
	}
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want config.Rate
		form string
	}{
		{"100/1h", config.Rate{N: 100, Window: time.Hour}, "100/1h"},
		{"100/h", config.Rate{N: 100, Window: time.Hour}, "100/1h"},
		{"1/90s", config.Rate{N: 1, Window: 90 * time.Second}, "1/1m30s"},
		{"1000000000/7d", config.Rate{N: 1e9, Window: 7 * 24 * time.Hour}, "1000000000/7d"},
	}
	for _, test := range tests {
		got, err := config.ParseRate(test.text)
		if err != nil || got != test.want || got.String() != test.form {
			t.Errorf("%q: got %v (%s), %v; want %v (%s)", test.text, got, got, err, test.want, test.form)
		}
	}
	for _, text := range []string{"", "5", "/h", "5/", "0/h", "-1/h", "5/0", "5/0s", "1.5/h", "1000000001/h", "5/h/h", "5 /h", "5/.5h", "99999999999999999999/h"} {
		if got, err := config.ParseRate(text); err == nil {
			t.Errorf("%q: got %v and no error", text, got)
		}
	}
	if got := (config.Rate{}).String(); got != "" {
		t.Errorf("zero rate: %q", got)
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want time.Duration
		form string
	}{
		{"0", 0, "0s"},
		{"0s", 0, "0s"},
		{"15m", 15 * time.Minute, "15m"},
		{"90m", 90 * time.Minute, "1h30m"},
		{"30d", 30 * 24 * time.Hour, "30d"},
		{"2w", 14 * 24 * time.Hour, "14d"},
		{"1h30m", 90 * time.Minute, "1h30m"},
		{"1ms1us1ns", 1_001_001, "1ms1us1ns"},
	}
	for _, test := range tests {
		got, err := config.ParseDuration(test.text)
		if err != nil || got != test.want || config.FormatDuration(got) != test.form {
			t.Errorf("%q: got %v (%s), %v; want %v (%s)", test.text, got, config.FormatDuration(got), err, test.want, test.form)
		}
	}
	for _, text := range []string{"", "5", "h", "-5m", "1.5h", "5y", "5M", "5 m", "300y", "106752d", "99999999999999999999s", "106751d24h"} {
		if got, err := config.ParseDuration(text); err == nil {
			t.Errorf("%q: got %v and no error", text, got)
		}
	}
	if got := config.FormatDuration(-time.Minute); got != "-1m0s" {
		t.Errorf("negative duration: %q", got)
	}
}

// The fuzz targets of quantities hold parse(print(x)) = x.

func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"0", "25MB", "1KiB", "9223372036854775807", "8796093022207TiB", "1 gb", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := config.ParseSize(text)
		if err != nil {
			return
		}
		if again, err := config.ParseSize(size.String()); size < 0 || err != nil || again != size {
			t.Errorf("%q is %d, printed as %q, which is %d, %v", text, size, size, again, err)
		}
	})
}

func FuzzParseRate(f *testing.F) {
	for _, seed := range []string{"100/1h", "5/m", "1/1w2d3h4m5s6ms7us8ns", "0/h", "1/0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rate, err := config.ParseRate(text)
		if err != nil {
			return
		}
		if again, err := config.ParseRate(rate.String()); rate.N < 1 || rate.Window <= 0 || err != nil || again != rate {
			t.Errorf("%q is %v, printed as %q, which is %v, %v", text, rate, rate.String(), again, err)
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"0", "15m", "30d", "1h30m", "292y", "106751d23h47m16s854ms775us807ns"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := config.ParseDuration(text)
		if err != nil {
			return
		}
		form := config.FormatDuration(d)
		if again, err := config.ParseDuration(form); d < 0 || err != nil || again != d {
			t.Errorf("%q is %d, printed as %q, which is %d, %v", text, d, form, again, err)
		}
	})
}
