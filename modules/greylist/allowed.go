package greylist

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/gaissmai/bart"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// allowed is what the operator allows, in memory. It is safe for concurrent use.
type allowed struct {
	mu       sync.RWMutex
	networks bart.Table[struct{}] // guarded by mu
	names    map[string]bool      // domains and addresses, guarded by mu
}

func newAllowed() *allowed { return &allowed{names: make(map[string]bool)} }

// find tells by which subject a client or its sender is allowed. A domain counts
// for its subdomains too, and an address for its +tags. An address that a
// forwarder has rewritten counts as one of the forwarder.
func (a *allowed) find(addr netip.Addr, reversePath mail.Address) (subject string, ok bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if addr.IsValid() && a.networks.Size() > 0 {
		if network, _, ok := a.networks.LookupPrefixLPM(netip.PrefixFrom(addr, addr.BitLen())); ok {
			return subjectOf(network), true
		}
	}
	if len(a.names) == 0 || reversePath.IsNull() {
		return "", false
	}
	for _, sender := range []mail.Address{reversePath.Fold(), plainAddress(reversePath), lastingAddress(reversePath)} {
		if name := sender.String(); a.names[name] {
			return name, true
		}
		for domain := sender.Domain; domain != ""; {
			if a.names[domain] {
				return domain, true
			}
			_, domain, _ = strings.Cut(domain, ".")
		}
	}
	return "", false
}

func (a *allowed) size() int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.networks.Size() + len(a.names)
}

// set allows a subject in normal form, or no longer.
func (a *allowed) set(subject string, on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	network, isNetwork := parseNetwork(subject)
	switch {
	case isNetwork && on:
		a.networks.Insert(network, struct{}{})
	case isNetwork:
		a.networks.Delete(network)
	case on:
		a.names[subject] = true
	default:
		delete(a.names, subject)
	}
}

// load reads what is stored.
func (a *allowed) load(q store.Querier) error {
	rows, err := q.Query(`SELECT subject FROM greylist_allowed`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var subject string
		if err := rows.Scan(&subject); err != nil {
			return err
		}
		a.set(subject, true)
	}
	return rows.Err()
}

// parseNetwork reads an address or a network.
func parseNetwork(s string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	network, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	const mapped = 96
	if network.Addr().Is4In6() && network.Bits() >= mapped {
		network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-mapped)
	}
	return network.Masked(), true
}

// subjectOf writes a network, and one address without its length.
func subjectOf(network netip.Prefix) string {
	if network.IsSingleIP() {
		return network.Addr().String()
	}
	return network.String()
}

// normalSubject reads what an operator wants to allow.
func normalSubject(subject string) (string, error) {
	if network, ok := parseNetwork(subject); ok {
		return subjectOf(network), nil
	}
	if address, err := mail.ParseAddress(subject); err == nil && address.Domain != "" {
		return address.Fold().String(), nil
	}
	if domain, err := mail.ParseDomain(subject); err == nil {
		return domain, nil
	}
	return "", control.Invalid(fmt.Errorf("%q is no IP address (192.0.2.1), network (192.0.2.0/24), domain (example.org) or mail address (bob@example.org)", subject))
}

// maxReason bounds the reason of an entry, in bytes.
const maxReason = 1000

// AllowGreylist lets a client or a sender always pass: an address or a network, a
// mail address, or a domain with its subdomains. It replaces an earlier entry of
// that subject. Where Created is zero, it is now. The error is control.ErrInvalid
// for what is no subject.
func (s *Service) AllowGreylist(ctx context.Context, a control.Allowed) error {
	subject, err := normalSubject(a.Subject)
	if err == nil && len(a.Reason) > maxReason {
		err = control.Invalid(fmt.Errorf("the reason has %d bytes, at most %d are kept: shorten it", len(a.Reason), maxReason))
	}
	if err != nil {
		return fmt.Errorf("allow on the greylist: %w", err)
	}
	if a.Created.IsZero() {
		a.Created = s.now()
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		tx.AfterCommit(func() { s.allowed.set(subject, true) })
		_, err := tx.Exec(`INSERT INTO greylist_allowed (subject, reason, created) VALUES (?, ?, ?)
			ON CONFLICT (subject) DO UPDATE SET reason = excluded.reason, created = excluded.created`, subject, a.Reason, a.Created)
		return err
	})
	if err != nil {
		return fmt.Errorf("allow %s on the greylist: %w", subject, err)
	}
	return nil
}

// DisallowGreylist takes an entry back; store.ErrNotFound if there is none of
// that subject.
func (s *Service) DisallowGreylist(ctx context.Context, subject string) error {
	subject, err := normalSubject(subject)
	if err != nil {
		return fmt.Errorf("no longer allow on the greylist: %w", err)
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec(`DELETE FROM greylist_allowed WHERE subject = ?`, subject)
		if err == nil && result.RowsAffected == 0 {
			err = store.ErrNotFound
		}
		tx.AfterCommit(func() { s.allowed.set(subject, false) })
		return err
	})
	if err != nil {
		return fmt.Errorf("no longer allow %s on the greylist: %w", subject, err)
	}
	return nil
}

// GreylistAllowed lists the entries by subject. next is the After of the page
// that follows, "" if none does.
func (s *Service) GreylistAllowed(ctx context.Context, p control.Page) (list []control.Allowed, next string, err error) {
	limit := pageLimit(p)
	err = s.store.Read(ctx, func(sn *store.Snapshot) error {
		rows, err := sn.Query(`SELECT subject, reason, created FROM greylist_allowed WHERE subject > ? ORDER BY subject LIMIT ?`, p.After, limit+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var a control.Allowed
			if err := rows.Scan(&a.Subject, &a.Reason, &a.Created); err != nil {
				return err
			}
			list = append(list, a)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, "", fmt.Errorf("list what the greylist allows: %w", err)
	}
	if len(list) > limit {
		list = list[:limit]
		next = list[limit-1].Subject
	}
	return list, next, nil
}

// pageLimit is how many entries a page has.
func pageLimit(p control.Page) int {
	if p.Limit <= 0 || p.Limit > control.MaxPage {
		return control.MaxPage
	}
	return p.Limit
}
