package mailbox

import (
	"strings"
	"time"
)

const months = "janfebmaraprmayjunjulaugsepoctnovdec"

// parseDate reads the value of a Date field (RFC 5322 section 3.3, with the
// obsolete forms): the name of the day, seconds and zone may be missing, and
// comments stand anywhere.
func parseDate(s string) (time.Time, bool) {
	d := dateScanner{rest: s}
	token := d.next()
	if token != "" && (token[0] < '0' || token[0] > '9') {
		token = d.next() // the name of the day
	}
	day, ok := number(token, 2)
	if !ok {
		return time.Time{}, false
	}
	month := month(d.next())
	yearToken := d.next()
	year, ok := number(yearToken, 4)
	if !ok || month == 0 || day < 1 || day > 31 {
		return time.Time{}, false
	}
	switch {
	case len(yearToken) <= 2 && year < 50:
		year += 2000
	case len(yearToken) <= 3:
		year += 1900
	}
	hour, minute, second := clock(d.next())
	offset := zone(d.next())
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.FixedZone("", offset))
	return t, t.Day() == day
}

// dateScanner splits a date at white space, commas and comments.
type dateScanner struct{ rest string }

func (d *dateScanner) next() string {
	depth := 0
	start := -1
	for i := range len(d.rest) {
		c := d.rest[i]
		switch {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
			continue
		}
		separator := depth > 0 || c == ' ' || c == '\t' || c == ',' || c == '\r' || c == '\n'
		if !separator && start < 0 {
			start = i
		}
		if separator && start >= 0 {
			token := d.rest[start:i]
			d.rest = d.rest[i:]
			return token
		}
	}
	if start < 0 {
		d.rest = ""
		return ""
	}
	token := d.rest[start:]
	d.rest = ""
	return token
}

// number reads one to most digits.
func number(s string, most int) (int, bool) {
	if s == "" || len(s) > most {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

// month gives 1 to 12, 0 if s is no month. Long names are taken by their
// beginning.
func month(s string) int {
	if len(s) < 3 {
		return 0
	}
	for i := 0; i < len(months); i += 3 {
		if strings.EqualFold(s[:3], months[i:i+3]) {
			return i/3 + 1
		}
	}
	return 0
}

// clock reads hh:mm or hh:mm:ss. What is out of range counts as 0.
func clock(s string) (hour, minute, second int) {
	var part [3]int
	for i := range part {
		token, rest, _ := strings.Cut(s, ":")
		if n, ok := number(token, 2); ok && n < 60 {
			part[i] = n
		}
		s = rest
	}
	if part[0] > 23 {
		part[0] = 0
	}
	return part[0], part[1], part[2]
}

// zone gives seconds east of UTC. Names other than those of RFC 5322 section 4.3
// count as UTC, as it says.
func zone(s string) int {
	if len(s) == 5 && (s[0] == '+' || s[0] == '-') {
		if n, ok := number(s[1:], 4); ok && n%100 < 60 && n <= 2359 {
			seconds := n/100*3600 + n%100*60
			if s[0] == '-' {
				return -seconds
			}
			return seconds
		}
	}
	names := [...]string{"EDT", "EST", "CDT", "CST", "MDT", "MST", "PDT", "PST"}
	hours := [...]int{-4, -5, -5, -6, -6, -7, -7, -8}
	for i, name := range names {
		if strings.EqualFold(name, s) {
			return hours[i] * 3600
		}
	}
	return 0
}

// unknownDay is the sent_day of a message without a date.
const unknownDay = -1 << 40

// civilDay gives the date of t in its own zone, in days since 1970.
func civilDay(t time.Time) int64 {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400
}
