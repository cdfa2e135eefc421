package mailbox

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// SearchResult is what Search found, in order.
type SearchResult struct {
	Numbers []Number
	// ModSeq is the highest mod-sequence among them (RFC 7162 section 3.1.5).
	ModSeq uint64
}

// Search gives the messages that match. Text is compared without regard to
// case, decoded from its transfer encoding and charset. Header fields other
// than those of the envelope, very long ones, and text and body, are read from
// the messages themselves, and only of those that match otherwise. Of the body,
// its texts are searched, and the header sections and texts of messages in it.
// Each text is decoded and folded once a message, however many keys look into it.
func (v *View) Search(ctx context.Context, criteria *imap.SearchCriteria) (*SearchResult, error) {
	if err := v.load(ctx); err != nil {
		return nil, err
	}
	s := search{view: v}
	all, err := s.compile(ctx, criteria)
	if err != nil {
		return nil, err
	}
	if s.bodyKeys > maxBodyKeys {
		return nil, refuse(imap.ResponseCodeLimit, "At most %d search keys that need the messages themselves in one command", maxBodyKeys)
	}
	found := make([]bool, v.told)
	open := v.wanted([]span{{0, v.told}}, func(*entry) bool { return true })
	if open, err = s.first(ctx, all, open, found); err != nil {
		return nil, err
	}
	if len(open) > 0 {
		err := v.readRows(ctx, open, s.read, func(i int, r *row) (err error) {
			found[i], err = s.second(ctx, all, i, r)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	result := new(SearchResult)
	for i, yes := range found {
		if e := &v.entries[i]; yes {
			result.Numbers = append(result.Numbers, Number{uint32(i + 1), imap.UID(e.uid)})
			result.ModSeq = max(result.ModSeq, uint64(e.modSeq))
		}
	}
	return result, nil
}

// search is one Search that runs. A message is judged by what the view knows;
// if that does not decide, by its row; if that does not either, by its body.
type search struct {
	view     *View
	read     columns      // what the conditions need
	bodyKeys int          // how many of them need the body
	m        candidate    // the message in question
	kept     []keptField  // what is looked for in its row
	body     searchedBody // what is looked for in its body
}

// maxBodyKeys bounds the keys for which the messages themselves are read.
const maxBodyKeys = 20

// keptField is a field that is kept at delivery, folded at the first need.
type keptField struct {
	name   string
	folded []byte
	ready  bool
}

// level is what a condition must know.
type level uint8

const (
	levelView level = iota
	levelRow
	levelBody
)

// verdict is the answer to a condition at some level.
type verdict uint8

const (
	no verdict = iota
	unknown
	yes
)

// condition is one thing that a message must be.
type condition struct {
	level level
	match func(*candidate) (bool, error)
}

// conjunction is what all must be true of a message.
type conjunction struct {
	conditions []condition
	not        []conjunction
	or         [][2]conjunction
}

// candidate is the message in question, as far as it is known.
type candidate struct {
	index int
	entry *entry
	row   *row
	body  *searchedBody
}

// judge decides what can be decided at a level.
func (c *conjunction) judge(m *candidate, known level) (verdict, error) {
	result := yes
	for _, t := range c.conditions {
		if t.level > known {
			result = unknown
			continue
		}
		if ok, err := t.match(m); err != nil || !ok {
			return no, err
		}
	}
	for i := range c.or {
		v, err := c.or[i][0].judge(m, known)
		if err != nil {
			return no, err
		}
		if v != yes {
			other, err := c.or[i][1].judge(m, known)
			if err != nil {
				return no, err
			}
			v = max(v, other)
		}
		if result = min(result, v); result == no {
			return no, nil
		}
	}
	for i := range c.not {
		v, err := c.not[i].judge(m, known)
		if err != nil {
			return no, err
		}
		if result = min(result, yes-v); result == no {
			return no, nil
		}
	}
	return result, nil
}

// first judges by the view and gives the entries that are still open.
func (s *search) first(ctx context.Context, all conjunction, spans []span, found []bool) ([]span, error) {
	var open []span
	for _, sp := range spans {
		for i := sp.begin; i < sp.end; i++ {
			if i%1024 == 0 && ctx.Err() != nil {
				return nil, ctx.Err()
			}
			s.m = candidate{index: i, entry: &s.view.entries[i]}
			v, _ := all.judge(&s.m, levelView)
			found[i] = v == yes
			if v != unknown {
				continue
			}
			if n := len(open); n > 0 && open[n-1].end == i {
				open[n-1].end++
			} else {
				open = append(open, span{i, i + 1})
			}
		}
	}
	return open, nil
}

// second judges by the row, and by the body if need be. A body that went
// meanwhile is that of a message which was expunged.
func (s *search) second(ctx context.Context, all conjunction, index int, r *row) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.m = candidate{index: index, entry: &s.view.entries[index], row: r}
	for i := range s.kept {
		s.kept[i].ready = false
	}
	v, err := all.judge(&s.m, levelRow)
	if err != nil || v != unknown {
		return v == yes, err
	}
	body, err := s.view.account.service.store.OpenBody(ctx, r.content.bodyID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.body.begin(body, r.content.structure, ctx.Err)
	s.m.body = &s.body
	v, err = all.judge(&s.m, levelBody)
	return v == yes, errors.Join(err, body.Close())
}

// compile makes conditions of criteria.
func (s *search) compile(ctx context.Context, criteria *imap.SearchCriteria) (conjunction, error) {
	var c conjunction
	for _, set := range criteria.SeqNum {
		if err := s.inSet(ctx, &c, set); err != nil {
			return c, err
		}
	}
	for _, set := range criteria.UID {
		if err := s.inSet(ctx, &c, set); err != nil {
			return c, err
		}
	}
	s.compileView(&c, criteria)
	s.compileRow(&c, criteria)
	s.compileText(&c, criteria)
	for i := range criteria.Not {
		not, err := s.compile(ctx, &criteria.Not[i])
		if err != nil {
			return c, err
		}
		c.not = append(c.not, not)
	}
	for i := range criteria.Or {
		first, err := s.compile(ctx, &criteria.Or[i][0])
		if err != nil {
			return c, err
		}
		second, err := s.compile(ctx, &criteria.Or[i][1])
		if err != nil {
			return c, err
		}
		c.or = append(c.or, [2]conjunction{first, second})
	}
	return c, nil
}

func (c *conjunction) add(l level, match func(*candidate) bool) {
	c.conditions = append(c.conditions, condition{l, func(m *candidate) (bool, error) { return match(m), nil }})
}

func (s *search) inSet(ctx context.Context, c *conjunction, set imap.NumSet) error {
	spans, err := s.view.resolve(ctx, set)
	if err != nil {
		return err
	}
	c.add(levelView, func(m *candidate) bool {
		i := sort.Search(len(spans), func(i int) bool { return spans[i].end > m.index })
		return i < len(spans) && spans[i].begin <= m.index
	})
	return nil
}

func (s *search) compileView(c *conjunction, criteria *imap.SearchCriteria) {
	for _, f := range criteria.Flag {
		bit, _ := s.view.keywords.bit(f)
		c.add(levelView, func(m *candidate) bool { return m.entry.flags&bit != 0 })
	}
	for _, f := range criteria.NotFlag {
		bit, _ := s.view.keywords.bit(f)
		c.add(levelView, func(m *candidate) bool { return m.entry.flags&bit == 0 })
	}
	if criteria.ModSeq != nil {
		since := criteria.ModSeq.ModSeq
		c.add(levelView, func(m *candidate) bool { return uint64(m.entry.modSeq) >= since })
	}
}

func (s *search) compileRow(c *conjunction, criteria *imap.SearchCriteria) {
	day := func(t time.Time, received bool, want func(have, day int64) bool) {
		if t.IsZero() {
			return
		}
		asked := civilDay(t)
		if received {
			c.add(levelRow, func(m *candidate) bool { return want(civilDay(m.row.internalDate()), asked) })
			return
		}
		s.read = max(s.read, columnsEnvelope)
		c.add(levelRow, func(m *candidate) bool {
			return m.row.content.sentDay != unknownDay && want(m.row.content.sentDay, asked)
		})
	}
	since := func(have, day int64) bool { return have >= day }
	before := func(have, day int64) bool { return have < day }
	day(criteria.Since, true, since)
	day(criteria.Before, true, before)
	day(criteria.SentSince, false, since)
	day(criteria.SentBefore, false, before)
	if n := criteria.Larger; n > 0 {
		c.add(levelRow, func(m *candidate) bool { return m.row.size > n })
	}
	if n := criteria.Smaller; n > 0 {
		c.add(levelRow, func(m *candidate) bool { return m.row.size < n })
	}
}

func (s *search) compileText(c *conjunction, criteria *imap.SearchCriteria) {
	for _, h := range criteria.Header {
		name, needle := strings.ToLower(h.Key), appendFolded(nil, h.Value)
		inMessage := func(m *candidate) (bool, error) { return m.body.headerContains(name, needle) }
		if known(name) && len(needle) > 0 {
			s.compileKept(c, name, needle, condition{levelBody, inMessage})
		} else {
			s.addBody(c, inMessage)
		}
	}
	for _, text := range criteria.Body {
		n := s.body.needles.add(text)
		s.addBody(c, func(m *candidate) (bool, error) { return m.body.contains(n) })
	}
	for _, text := range criteria.Text {
		n := s.body.needles.add(text)
		s.addBody(c, func(m *candidate) (bool, error) {
			if ok, err := m.body.headerContains("", m.body.needles.texts[n]); ok || err != nil {
				return ok, err
			}
			return m.body.contains(n)
		})
	}
}

func (s *search) addBody(c *conjunction, match func(*candidate) (bool, error)) {
	s.read = columnsAll
	s.bodyKeys++
	c.conditions = append(c.conditions, condition{levelBody, match})
}

// compileKept looks for a folded text in a field that is kept at delivery, and in
// the message itself where the field was too long for that.
func (s *search) compileKept(c *conjunction, name string, needle []byte, inMessage condition) {
	if inEnvelope(name) {
		s.read = max(s.read, columnsEnvelope)
	} else {
		s.read = columnsAll
	}
	n := slices.IndexFunc(s.kept, func(f keptField) bool { return f.name == name })
	if n < 0 {
		n = len(s.kept)
		s.kept = append(s.kept, keptField{name: name})
	}
	var kept, clipped conjunction
	kept.add(levelRow, func(m *candidate) bool {
		f := &s.kept[n]
		if !f.ready {
			f.folded, f.ready = appendFolded(f.folded[:0], m.row.content.field(name)), true
		}
		return bytes.Contains(f.folded, needle)
	})
	clipped.add(levelRow, func(m *candidate) bool { return m.row.content.clipped() })
	clipped.conditions = append(clipped.conditions, inMessage)
	c.or = append(c.or, [2]conjunction{kept, clipped})
}

// inEnvelope tells whether a field is part of the envelope.
func inEnvelope(name string) bool {
	return known(name) && name != "references" && name != "list-id"
}

// known tells whether a field is kept at delivery.
func known(name string) bool {
	return new(envelopeFields).field(name) != nil
}

// clipped tells whether a field that is kept was cut.
func (c *content) clipped() bool {
	return strings.HasSuffix(c.envelope, "\x01") && readEnvelope(c.envelope).clipped
}

// field gives the text of a field that is kept.
func (c *content) field(name string) string {
	if name == "references" || name == "list-id" {
		r := blobReader{c.fields}
		references, listID := r.string(), r.string()
		if name == "references" {
			return references
		}
		return decodeWords(listID)
	}
	e := readEnvelope(c.envelope)
	switch name {
	case "date":
		return e.date
	case "subject":
		return decodeWords(e.subject)
	case "in-reply-to":
		return e.inReplyTo
	case "message-id":
		return e.messageID
	case "from":
		return e.addresses[fieldFrom].text()
	case "sender":
		return e.addresses[fieldSender].text()
	case "reply-to":
		return e.addresses[fieldReplyTo].text()
	case "to":
		return e.addresses[fieldTo].text()
	case "cc":
		return e.addresses[fieldCc].text()
	default:
		return e.addresses[fieldBcc].text()
	}
}
