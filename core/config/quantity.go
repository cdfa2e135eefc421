package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. In the file it is a string: a whole number and one
// of B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024),
// in upper or lower case; a number alone counts bytes. It is never negative.
type Size int64

type sizeUnit struct {
	name  string
	bytes int64
}

// sizeUnits lists the units, the largest first.
var sizeUnits = []sizeUnit{
	{"TiB", 1 << 40},
	{"TB", 1e12},
	{"GiB", 1 << 30},
	{"GB", 1e9},
	{"MiB", 1 << 20},
	{"MB", 1e6},
	{"KiB", 1 << 10},
	{"KB", 1e3},
	{"B", 1},
}

// ParseSize reads a size as the file writes it.
func ParseSize(s string) (Size, error) {
	digits, unit := cutNumber(s)
	if digits == "" {
		return 0, errors.New(`a size is a number and a unit, such as "25MB"`)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, errors.New("the number is too large")
	}
	if unit == "" {
		return Size(n), nil
	}
	unit = strings.TrimPrefix(unit, " ")
	for _, u := range sizeUnits {
		if !strings.EqualFold(u.name, unit) {
			continue
		}
		if n > math.MaxInt64/u.bytes {
			return 0, errors.New("the size is too large")
		}
		return Size(n * u.bytes), nil
	}
	return 0, errors.New("the units of a size are B, KB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (powers of 1024)")
}

// String gives the shortest form that ParseSize reads back to the same size.
func (s Size) String() string {
	best := strconv.FormatInt(int64(s), 10) + "B"
	if s <= 0 {
		return best
	}
	for _, u := range sizeUnits {
		if int64(s)%u.bytes != 0 {
			continue
		}
		if text := strconv.FormatInt(int64(s)/u.bytes, 10) + u.name; len(text) < len(best) {
			best = text
		}
	}
	return best
}

// MarshalText is String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseSize.
func (s *Size) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSize(string(text))
	return err
}

// cutNumber splits leading decimal digits off.
func cutNumber(s string) (digits, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}

// Rate is a number of events in a window of time. In the file it is "100/1h";
// "100/h" means the same.
type Rate struct {
	// N is the number of events, at least 1.
	N int
	// Window is the time in which they may happen, more than 0.
	Window time.Duration
}

// maxRate bounds N, so that sums of counters cannot overflow.
const maxRate = 1_000_000_000

// ParseRate reads a rate as the file writes it.
func ParseRate(s string) (Rate, error) {
	count, window, ok := strings.Cut(s, "/")
	digits, rest := cutNumber(count)
	if !ok || digits == "" || rest != "" {
		return Rate{}, errors.New(`a rate is a number and a time, such as "100/1h"`)
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n > maxRate {
		return Rate{}, fmt.Errorf("the number of a rate is at most %d", maxRate)
	}
	if n == 0 {
		return Rate{}, errors.New("the number of a rate is at least 1")
	}
	if d, _ := cutNumber(window); d == "" && !strings.HasPrefix(window, ".") {
		window = "1" + window
	}
	w, err := ParseDuration(window)
	if err != nil {
		return Rate{}, fmt.Errorf("the time of a rate: %w", err)
	}
	if w == 0 {
		return Rate{}, errors.New("the time of a rate is more than 0")
	}
	return Rate{N: n, Window: w}, nil
}

// String gives the form that ParseRate reads, "" for the zero value.
func (r Rate) String() string {
	if r == (Rate{}) {
		return ""
	}
	return strconv.Itoa(r.N) + "/" + FormatDuration(r.Window)
}

// MarshalText is String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRate.
func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRate(string(text))
	return err
}

type durationUnit struct {
	name string
	unit time.Duration
}

// durationUnits lists the units, the largest first. A day has 24 hours.
var durationUnits = []durationUnit{
	{"w", 7 * 24 * time.Hour},
	{"d", 24 * time.Hour},
	{"h", time.Hour},
	{"m", time.Minute},
	{"s", time.Second},
	{"ms", time.Millisecond},
	{"us", time.Microsecond},
	{"ns", time.Nanosecond},
}

// ParseDuration reads a duration as the file writes it: whole numbers, each with
// a unit of w, d, h, m, s, ms, us or ns, such as "30d" or "1h30m"; "0" needs no
// unit. It is never negative.
func ParseDuration(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	if s == "" {
		return 0, errors.New(`a duration is numbers with units, such as "15m"`)
	}
	var sum time.Duration
	for rest := s; rest != ""; {
		var digits string
		if digits, rest = cutNumber(rest); digits == "" {
			return 0, errors.New(`a duration is whole numbers with units, such as "15m" or "1h30m"`)
		}
		end := 0
		for end < len(rest) && (rest[end] < '0' || rest[end] > '9') {
			end++
		}
		unit, err := findDurationUnit(rest[:end])
		if err != nil {
			return 0, err
		}
		rest = rest[end:]
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > int64(math.MaxInt64-sum)/int64(unit) {
			return 0, errors.New("the duration is too long; 292 years is the most")
		}
		sum += time.Duration(n) * unit
	}
	return sum, nil
}

func findDurationUnit(name string) (time.Duration, error) {
	for _, u := range durationUnits {
		if u.name == name {
			return u.unit, nil
		}
	}
	if name == "" {
		return 0, errors.New(`a duration needs a unit, such as "15m"`)
	}
	return 0, errors.New("the units of a duration are w, d, h, m, s and ms, each after a whole number")
}

// FormatDuration gives the form that ParseDuration reads, without weeks: "30d",
// "1h30m". Negative durations are given as Go prints them.
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	if d < 0 {
		return d.String()
	}
	var b strings.Builder
	for _, u := range durationUnits[1:] {
		if n := d / u.unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d %= u.unit
		}
	}
	return b.String()
}
