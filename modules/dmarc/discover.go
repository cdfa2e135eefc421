package dmarc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/mox-like/mox-like/core/dns"
)

// resolver is what an evaluation needs of the DNS.
type resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupIP(ctx context.Context, network, name string) ([]netip.Addr, error)
}

// place is a domain with a record of its own.
type place struct {
	domain string
	*record
}

// discovery finds records and organizational domains for one message. Domains are
// in A-labels and lower case. Its errors are those of a DNS that does not answer.
type discovery struct {
	resolver resolver
	// suffixes asks the public suffix list for organizational domains (RFC 7489
	// section 3.2), and not the DNS (RFC 9989 section 4.10).
	suffixes bool
	known    map[string]*record // nil for a domain without one
	several  string             // a domain with more than one record
}

// record gives the record of a domain, nil if it has none. Several count as none.
func (d *discovery) record(ctx context.Context, domain string) (*record, error) {
	if r, ok := d.known[domain]; ok {
		return r, nil
	}
	texts, err := d.resolver.LookupTXT(ctx, "_dmarc."+domain)
	if err != nil && !errors.Is(err, dns.ErrNotFound) && !errors.Is(err, dns.ErrBadName) {
		return nil, fmt.Errorf("look up DMARC record of %s: %w", domain, err)
	}
	var found *record
	count := 0
	for _, text := range texts {
		if r, ok := parseRecord(text); ok {
			r.text = text
			found = r
			count++
		}
	}
	if count > 1 {
		found, d.several = nil, domain
	}
	if d.known == nil {
		d.known = make(map[string]*record)
	}
	d.known[domain] = found
	return found, nil
}

// maxLabels is how many labels of a domain a tree walk looks at beside the whole, so
// that it asks at most eight times (RFC 9989 section 4.10).
const maxLabels = 7

// parents gives the names that a tree walk asks for after the domain itself.
func parents(domain string) []string {
	labels := strings.Split(domain, ".")
	var names []string
	for i := max(1, len(labels)-maxLabels); i < len(labels); i++ {
		names = append(names, strings.Join(labels[i:], "."))
	}
	return names
}

// walk gives the domains with records from a domain upwards, up to one that says
// what it is (RFC 9989 section 4.10).
func (d *discovery) walk(ctx context.Context, domain string) ([]place, error) {
	var places []place
	for _, name := range append([]string{domain}, parents(domain)...) {
		r, err := d.record(ctx, name)
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		places = append(places, place{name, r})
		if r.psd != 'u' {
			break
		}
	}
	return places, nil
}

// chosen gives the organizational domain that a walk from start has found (RFC
// 9989 section 4.10.2).
func chosen(start string, places []place) string {
	for _, p := range places {
		switch {
		case p.psd == 'n':
			return p.domain
		case p.psd == 'y' && p.domain != start:
			below := strings.TrimSuffix(start, "."+p.domain)
			return below[strings.LastIndexByte(below, '.')+1:] + "." + p.domain
		}
	}
	if len(places) == 0 {
		return start
	}
	return places[len(places)-1].domain
}

// organizational gives the organizational domain of a domain.
func (d *discovery) organizational(ctx context.Context, domain string) (string, error) {
	if d.suffixes {
		return registered(domain), nil
	}
	places, err := d.walk(ctx, domain)
	if err != nil {
		return "", err
	}
	name := chosen(domain, places)
	// A suffix whose record does not say that it is one is no organization all the same.
	if suffix, icann := publicsuffix.PublicSuffix(name); icann && suffix == name {
		name = registered(domain)
	}
	return name, nil
}

// registered gives the domain that was registered below a public suffix, or the
// suffix itself.
func registered(domain string) string {
	if name, err := publicsuffix.EffectiveTLDPlusOne(domain); err == nil {
		return name
	}
	return domain
}

// policy finds the record that holds for an author's domain: its own, that of its
// organizational domain, or that of its public suffix (RFC 9989 section 4.10.1).
// There is none if the place has no record.
func (d *discovery) policy(ctx context.Context, author string) (place, error) {
	own, err := d.record(ctx, author)
	if own != nil || err != nil {
		return place{author, own}, err
	}
	if d.suffixes {
		name := registered(author)
		r, err := d.record(ctx, name)
		return place{name, r}, err
	}
	places, err := d.walk(ctx, author)
	if err != nil || len(places) == 0 {
		return place{}, err
	}
	domain := chosen(author, places)
	if i := slices.IndexFunc(places, func(p place) bool { return p.domain == domain }); i >= 0 {
		return places[i], nil
	}
	return places[len(places)-1], nil
}

// exists tells whether the DNS knows a domain in the sense of RFC 8020.
func (d *discovery) exists(ctx context.Context, domain string) (bool, error) {
	_, err := d.resolver.LookupIP(ctx, "ip4", domain)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, dns.ErrNotFound):
		return !dns.NoName(err), nil
	case errors.Is(err, dns.ErrBadName):
		return false, nil
	default:
		return false, fmt.Errorf("find out whether %s exists: %w", domain, err)
	}
}
