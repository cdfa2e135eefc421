package mailbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/core/store"
)

// List gives the mailboxes that match any of the patterns, interpreted from the
// reference, in the order of their names (RFC 9051 section 6.3.9, RFC 5258, RFC
// 6154, RFC 5819). Names that exist only as a part of others' names are listed
// as \NonExistent and \Noselect. No patterns match nothing. The names are compared
// when the transaction is over.
func (a *Account) List(ctx context.Context, reference string, patterns []string, o *imap.ListOptions) ([]imap.ListData, error) {
	if o == nil {
		o = new(imap.ListOptions)
	}
	if len(patterns) > maxPatterns {
		return nil, refuse(imap.ResponseCodeLimit, "At most %d patterns in one command", maxPatterns)
	}
	list, err := a.list(ctx, normalPatterns(reference, patterns), o)
	if err != nil {
		return nil, fmt.Errorf("list mailboxes of %s: %w", a.address, err)
	}
	return list, nil
}

func (a *Account) list(ctx context.Context, patterns []pattern, o *imap.ListOptions) ([]imap.ListData, error) {
	names, err := a.names(ctx, o)
	if err != nil {
		return nil, err
	}
	var list []imap.ListData
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !matchAny(patterns, name) {
			continue
		}
		data, ok := names[name].data(name, o)
		if !ok {
			continue
		}
		if row := names[name].row; o.ReturnStatus != nil && row != nil {
			if data.Status, err = a.status(ctx, row, o.ReturnStatus); err != nil {
				return nil, err
			}
		}
		list = append(list, data)
	}
	return list, nil
}

// Bounds of what one List has to compare with every name.
const (
	maxPatterns      = 20
	maxPatternLength = 2 * maxNameLength // more than any needs: names are not longer
)

// pattern is a pattern with its reference.
type pattern struct {
	normal string
	upper  string // for INBOX, whose case does not matter
}

// normalPatterns leaves out what no name can match.
func normalPatterns(reference string, patterns []string) []pattern {
	var list []pattern
	for _, p := range patterns {
		if p = reference + p; len(p) <= maxPatternLength {
			list = append(list, pattern{normal: normalName(p), upper: strings.ToUpper(p)})
		}
	}
	return list
}

func matchAny(patterns []pattern, name string) bool {
	return slices.ContainsFunc(patterns, func(p pattern) bool {
		return matchName(p.normal, name) || name == inbox && matchName(p.upper, name)
	})
}

// listed is what is known about a name.
type listed struct {
	row             *mailboxRow // nil if only others' names contain it
	hasChildren     bool
	subscribed      bool
	subscribedBelow bool
}

// names collects all names that a List may give.
func (a *Account) names(ctx context.Context, o *imap.ListOptions) (map[string]*listed, error) {
	var rows []mailboxRow
	var subscriptions []string
	err := a.service.store.Read(ctx, func(sn *store.Snapshot) (err error) {
		if rows, err = mailboxesOf(sn, a.id); err == nil && (o.SelectSubscribed || o.ReturnSubscribed) {
			subscriptions, err = a.subscriptions(sn)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, ErrGone
	}
	names := make(map[string]*listed, len(rows))
	entry := func(name string) *listed {
		if names[name] == nil {
			names[name] = new(listed)
		}
		return names[name]
	}
	for i := range rows {
		entry(rows[i].name).row = &rows[i]
		for _, parent := range parents(rows[i].name) {
			entry(parent).hasChildren = true
		}
	}
	for _, name := range subscriptions {
		entry(name).subscribed = true
		for _, parent := range parents(name) {
			entry(parent).subscribedBelow = true
		}
	}
	return names, nil
}

func (a *Account) subscriptions(q store.Querier) ([]string, error) {
	rows, err := q.Query("SELECT name FROM mailbox_subscriptions WHERE account_id = ?", a.id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		list = append(list, name)
	}
	return list, rows.Err()
}

// data gives what List tells about a name, if the options select it.
func (l *listed) data(name string, o *imap.ListOptions) (imap.ListData, bool) {
	data := imap.ListData{Delim: Delimiter, Mailbox: name}
	selected := l.row != nil || l.hasChildren
	if o.SelectSubscribed {
		selected = l.subscribed
	}
	if o.SelectSpecialUse {
		selected = selected && l.row != nil && l.row.specialUse != ""
	}
	if o.SelectRecursiveMatch && l.subscribedBelow {
		data.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
		selected = true
	}
	if !selected {
		return data, false
	}
	if l.row == nil {
		data.Attrs = append(data.Attrs, imap.MailboxAttrNonExistent, imap.MailboxAttrNoSelect)
	}
	if l.hasChildren {
		data.Attrs = append(data.Attrs, imap.MailboxAttrHasChildren)
	} else {
		data.Attrs = append(data.Attrs, imap.MailboxAttrHasNoChildren)
	}
	if l.subscribed {
		data.Attrs = append(data.Attrs, imap.MailboxAttrSubscribed)
	}
	if l.row != nil && l.row.specialUse != "" {
		data.Attrs = append(data.Attrs, imap.MailboxAttr(l.row.specialUse))
	}
	return data, true
}

// Status gives the counters of a mailbox that o asks for, without a look at its
// messages but for DeletedStorage.
func (a *Account) Status(ctx context.Context, name string, o *imap.StatusOptions) (*imap.StatusData, error) {
	row, err := a.mailbox(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.status(ctx, row, o)
}

func (a *Account) status(ctx context.Context, row *mailboxRow, o *imap.StatusOptions) (*imap.StatusData, error) {
	count := func(asked bool, n int64) *uint32 {
		if !asked {
			return nil
		}
		c := uint32(n)
		return &c
	}
	data := &imap.StatusData{
		Mailbox:     row.name,
		NumMessages: count(o.NumMessages, row.messages),
		NumRecent:   count(o.NumRecent, 0),
		NumUnseen:   count(o.NumUnseen, row.unseen),
		NumDeleted:  count(o.NumDeleted, row.deleted),
	}
	if o.UIDNext {
		data.UIDNext = imap.UID(row.uidNext)
	}
	if o.UIDValidity {
		data.UIDValidity = uint32(row.uidValidity)
	}
	if o.HighestModSeq {
		data.HighestModSeq = uint64(row.modSeq)
	}
	if o.Size {
		data.Size = &row.bytes
	}
	if o.DeletedStorage {
		data.DeletedStorage = new(int64)
		err := a.service.store.Read(ctx, func(sn *store.Snapshot) error {
			return sn.QueryRow("SELECT coalesce(sum(size), 0) FROM mailbox_messages WHERE mailbox_id = ? AND flags & ? <> 0", row.id, int64(flagDeleted)).
				Scan(data.DeletedStorage)
		})
		if err != nil {
			return nil, fmt.Errorf("count deleted messages: %w", err)
		}
	}
	return data, nil
}
