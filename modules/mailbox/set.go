package mailbox

import (
	"context"
	"slices"

	"github.com/emersion/go-imap/v2"
)

// Number is a message's place and UID.
type Number struct {
	SeqNum uint32
	UID    imap.UID
}

// uidRange is a range of UIDs with both ends.
type uidRange struct{ first, last int64 }

// span is a range of entries of a view, without the one at end.
type span struct{ begin, end int }

// resolve gives the entries that a set of a client stands for, in order and
// each once. Numbers that no message has are left out.
func (v *View) resolve(ctx context.Context, set imap.NumSet) ([]span, error) {
	if err := v.load(ctx); err != nil {
		return nil, err
	}
	var spans []span
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			first, last := order(int64(r.Start), int64(r.Stop), int64(v.told))
			spans = append(spans, span{int(max(first, 1)) - 1, int(min(last, int64(v.told)))})
		}
	case imap.UIDSet:
		if imap.IsSearchRes(set) {
			set = v.result
		}
		highest := int64(0)
		if v.told > 0 {
			highest = int64(v.entries[v.told-1].uid)
		}
		for _, r := range set {
			first, last := order(int64(r.Start), int64(r.Stop), highest)
			spans = append(spans, span{min(v.search(first), v.told), min(v.search(last+1), v.told)})
		}
	}
	return mergeSpans(spans), nil
}

// order gives the ends of a range of a client, in which 0 stands for the
// highest number and the ends may stand either way (RFC 9051 section 9).
func order(start, stop, highest int64) (first, last int64) {
	if start == 0 {
		start = highest
	}
	if stop == 0 {
		stop = highest
	}
	return min(start, stop), max(start, stop)
}

// mergeSpans sorts spans and joins those that touch.
func mergeSpans(spans []span) []span {
	spans = slices.DeleteFunc(spans, func(s span) bool { return s.begin >= s.end })
	slices.SortFunc(spans, func(a, b span) int { return a.begin - b.begin })
	merged := spans[:0]
	for _, s := range spans {
		if n := len(merged); n > 0 && s.begin <= merged[n-1].end {
			merged[n-1].end = max(merged[n-1].end, s.end)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// length gives the number of entries.
func length(spans []span) int {
	n := 0
	for _, s := range spans {
		n += s.end - s.begin
	}
	return n
}

// split cuts spans into pieces of at most n entries altogether.
func split(spans []span, n int) [][]span {
	var pieces [][]span
	var piece []span
	room := n
	for _, s := range spans {
		for s.begin < s.end {
			cut := min(s.begin+room, s.end)
			piece = append(piece, span{s.begin, cut})
			room -= cut - s.begin
			s.begin = cut
			if room == 0 {
				pieces = append(pieces, piece)
				piece, room = nil, n
			}
		}
	}
	if len(piece) > 0 {
		pieces = append(pieces, piece)
	}
	return pieces
}

// uids gives the range of UIDs from the first to the last entry of a span. All
// messages of the mailbox in that range are entries of the view.
func (v *View) uids(s span) uidRange {
	return uidRange{int64(v.entries[s.begin].uid), int64(v.entries[s.end-1].uid)}
}

func (v *View) uidRanges(spans []span) []uidRange {
	ranges := make([]uidRange, len(spans))
	for i, s := range spans {
		ranges[i] = v.uids(s)
	}
	return ranges
}

// appendRun adds a UID that is higher than all in the ranges.
func appendRun(ranges []uidRange, uid int64) []uidRange {
	if n := len(ranges); n > 0 && ranges[n-1].last == uid-1 {
		ranges[n-1].last = uid
		return ranges
	}
	return append(ranges, uidRange{uid, uid})
}

// appendUID adds a UID that is higher than all in the set.
func appendUID(set imap.UIDSet, uid int64) imap.UIDSet {
	if n := len(set); n > 0 && int64(set[n-1].Stop) == uid-1 {
		set[n-1].Stop = imap.UID(uid)
		return set
	}
	return append(set, imap.UIDRange{Start: imap.UID(uid), Stop: imap.UID(uid)})
}
