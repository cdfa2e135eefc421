package imap

import (
	"context"
	"fmt"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/mox-like/mox-like/modules/mailbox"
)

// maxCriteria bounds the keys of a SEARCH, each of which may be compared with
// every message.
const maxCriteria = 500

// Search finds messages (RFC 9051 section 6.4.4, RFC 5182).
func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, o *imap.SearchOptions) (*imap.SearchData, error) {
	if countCriteria(criteria) > maxCriteria {
		return nil, no(imap.ResponseCodeLimit, fmt.Sprintf("At most %d search keys in one command", maxCriteria))
	}
	var found *mailbox.SearchResult
	err := s.do("SEARCH", func(ctx context.Context) (err error) {
		found, err = s.view.Search(ctx, criteria)
		return err
	})
	if err != nil {
		if o.ReturnSave {
			s.view.SaveResult(nil)
		}
		return nil, err
	}
	if o.ReturnSave {
		s.view.SaveResult(savedUIDs(found.Numbers, o))
	}
	return searchData(found.Numbers, kind == imapserver.NumKindUID), nil
}

func countCriteria(c *imap.SearchCriteria) int {
	n := len(c.SeqNum) + len(c.UID) + len(c.Header) + len(c.Body) + len(c.Text) + len(c.Flag) + len(c.NotFlag)
	for i := range c.Not {
		n += 1 + countCriteria(&c.Not[i])
	}
	for i := range c.Or {
		n += 1 + countCriteria(&c.Or[i][0]) + countCriteria(&c.Or[i][1])
	}
	return n
}

// searchData gives the numbers of one kind.
func searchData(found []mailbox.Number, uids bool) *imap.SearchData {
	data := &imap.SearchData{Count: uint32(len(found))}
	if uids {
		data.All = uidSet(found)
	} else {
		data.All = seqSet(found)
	}
	if len(found) == 0 {
		return data
	}
	first, last := found[0], found[len(found)-1]
	if uids {
		data.Min, data.Max = uint32(first.UID), uint32(last.UID)
	} else {
		data.Min, data.Max = first.SeqNum, last.SeqNum
	}
	return data
}

// savedUIDs gives what $ stands for: with MIN or MAX alone only that message
// (RFC 5182 section 2.4).
func savedUIDs(found []mailbox.Number, o *imap.SearchOptions) imap.UIDSet {
	if len(found) == 0 || o.ReturnAll || o.ReturnCount {
		return uidSet(found)
	}
	var ends []mailbox.Number
	if o.ReturnMin {
		ends = append(ends, found[0])
	}
	if o.ReturnMax && (len(ends) == 0 || len(found) > 1) {
		ends = append(ends, found[len(found)-1])
	}
	return uidSet(ends)
}

// uidSet makes ranges of adjacent UIDs.
func uidSet(found []mailbox.Number) imap.UIDSet {
	var set imap.UIDSet
	for _, n := range found {
		if last := len(set) - 1; last >= 0 && set[last].Stop+1 == n.UID {
			set[last].Stop = n.UID
			continue
		}
		set = append(set, imap.UIDRange{Start: n.UID, Stop: n.UID})
	}
	return set
}

// seqSet makes ranges of adjacent sequence numbers.
func seqSet(found []mailbox.Number) imap.SeqSet {
	var set imap.SeqSet
	for _, n := range found {
		if last := len(set) - 1; last >= 0 && set[last].Stop+1 == n.SeqNum {
			set[last].Stop = n.SeqNum
			continue
		}
		set = append(set, imap.SeqRange{Start: n.SeqNum, Stop: n.SeqNum})
	}
	return set
}
