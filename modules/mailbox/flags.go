package mailbox

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// flags is the set of a message's flags. The low bits are the system flags; from
// firstKeyword on, each bit is a keyword of the mailbox, in the order in which
// its row lists them.
type flags uint64

const (
	flagSeen flags = 1 << iota
	flagAnswered
	flagFlagged
	flagDeleted
	flagDraft
)

const (
	firstKeyword = 8
	// maxKeywords keeps the set within SQLite's signed integers.
	maxKeywords = 54
	// maxKeywordLength bounds the row that lists them.
	maxKeywordLength = 64
)

// systemFlags stand in the order of their bits.
var systemFlags = [...]imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft}

// firstKeywords are the keywords of a new mailbox, so that clients find those
// that they know defined from the start.
const firstKeywords = "$Forwarded $MDNSent $Junk $NotJunk $Phishing $Important"

// keywords are those of a mailbox. The slice is never changed in place.
type keywords []imap.Flag

func parseKeywords(row string) keywords {
	words := strings.Fields(row)
	list := make(keywords, len(words))
	for i, w := range words {
		list[i] = imap.Flag(w)
	}
	return list
}

// String gives them as the row has them.
func (k keywords) String() string {
	var b strings.Builder
	for i, f := range k {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(f))
	}
	return b.String()
}

// bit finds a flag, whatever the case of its letters.
func (k keywords) bit(f imap.Flag) (flags, bool) {
	for i, s := range systemFlags {
		if strings.EqualFold(string(s), string(f)) {
			return 1 << i, true
		}
	}
	for i, w := range k {
		if strings.EqualFold(string(w), string(f)) {
			return 1 << (firstKeyword + i), true
		}
	}
	return 0, false
}

// set gives the bits of a list, adding keywords that are missing. \Recent,
// which RFC 9051 no longer has, is left out as every server did before.
func (k keywords) set(list []imap.Flag) (flags, keywords, error) {
	var set flags
	for _, f := range list {
		if strings.EqualFold(string(f), `\Recent`) {
			continue
		}
		b, ok := k.bit(f)
		if !ok {
			if !validKeyword(f) {
				return 0, k, refuse(imap.ResponseCodeCannot, "%q cannot be a flag; use a system flag or a keyword of up to %d letters", string(f), maxKeywordLength)
			}
			if len(k) == maxKeywords {
				return 0, k, refuse(imap.ResponseCodeLimit, "The mailbox has %d keywords already, so %q cannot be added; use one of them", maxKeywords, string(f))
			}
			b = 1 << (firstKeyword + len(k))
			k = append(slices.Clip(k), f)
		}
		set |= b
	}
	return set, k, nil
}

// validKeyword tells whether f is an atom (RFC 9051 section 9) that is no
// system flag.
func validKeyword(f imap.Flag) bool {
	if f == "" || len(f) > maxKeywordLength {
		return false
	}
	for i := range len(f) {
		if f[i] <= ' ' || f[i] >= 0x7f || strings.IndexByte(`(){%*"\]`, f[i]) >= 0 {
			return false
		}
	}
	return true
}

// list is the reverse of set.
func (k keywords) list(set flags) []imap.Flag {
	list := make([]imap.Flag, 0, 4)
	for i, f := range systemFlags {
		if set&(1<<i) != 0 {
			list = append(list, f)
		}
	}
	for i, f := range k {
		if set&(1<<(firstKeyword+i)) != 0 {
			list = append(list, f)
		}
	}
	return list
}

// defined lists all flags that messages of the mailbox may have.
func (k keywords) defined() []imap.Flag {
	return append(slices.Clone(systemFlags[:]), k...)
}

// permanent lists the flags that a client may set.
func (k keywords) permanent() []imap.Flag {
	if len(k) < maxKeywords {
		return append(k.defined(), imap.FlagWildcard)
	}
	return k.defined()
}

// into translates a set from the keywords k to those of another mailbox. What
// does not fit there any more is left out.
func (k keywords) into(other keywords, set flags) (flags, keywords) {
	moved := set & (1<<firstKeyword - 1)
	for i, f := range k {
		if set&(1<<(firstKeyword+i)) == 0 {
			continue
		}
		if b, grown, err := other.set([]imap.Flag{f}); err == nil {
			moved, other = moved|b, grown
		}
	}
	return moved, other
}
