package control

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"
)

// blocklist is the service that keeps the blocks.
type blocklist interface {
	AddBlock(ctx context.Context, b Block) error
	RemoveBlock(ctx context.Context, network netip.Prefix) (removed int, err error)
	Blocks(ctx context.Context, p Page) (list []Block, next string, err error)
	WhyBlocked(ctx context.Context, address netip.Addr) ([]Block, error)
	ImportBlocks(ctx context.Context, source string, list io.Reader, expires time.Time) (added int, err error)
}

// AddBlock blocks a network.
func (l *Local) AddBlock(ctx context.Context, b Block) error {
	service, err := service[blocklist](l, "add block")
	if err != nil {
		return err
	}
	if b.Network, err = network(b.Network); err != nil {
		return fmt.Errorf("add block: %w", err)
	}
	if b.Source == "" {
		b.Source = SourceAdmin
	}
	trail, err := l.trail()
	if err != nil {
		return err
	}
	b.Created = trail.now().UTC().Truncate(time.Microsecond)
	if !b.Expires.IsZero() && !b.Expires.After(b.Created) {
		return Invalid(fmt.Errorf("add block: it would end at %s, which is over", b.Expires.Format(time.RFC3339)))
	}
	before, err := ofNetwork(ctx, service, b.Network)
	if err != nil {
		return err
	}
	return trail.audited(ctx, AuditEntry{Operation: "add-block", Object: b.Network.String()}, before, func() (any, error) {
		return b, service.AddBlock(ctx, b)
	})
}

// network refuses what is none, and gives the others without what the mask hides.
func network(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() {
		return p, Invalid(fmt.Errorf("no network is named; write an address or a network, such as 192.0.2.0/24"))
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, Invalid(fmt.Errorf("%s holds every IPv4 address in its IPv6 form; write IPv4 networks as such", p))
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// ofNetwork gives the blocks of exactly that network, nil for none.
func ofNetwork(ctx context.Context, service blocklist, network netip.Prefix) (any, error) {
	covering, err := service.WhyBlocked(ctx, network.Addr())
	if err != nil {
		return nil, err
	}
	var list []Block
	for _, b := range covering {
		if b.Network == network {
			list = append(list, b)
		}
	}
	if list == nil {
		return nil, nil
	}
	return list, nil
}

// RemoveBlock ends the blocks of a network.
func (l *Local) RemoveBlock(ctx context.Context, p netip.Prefix) (removed int, err error) {
	service, err := service[blocklist](l, "remove block")
	if err != nil {
		return 0, err
	}
	if p, err = network(p); err != nil {
		return 0, fmt.Errorf("remove block: %w", err)
	}
	before, err := ofNetwork(ctx, service, p)
	if err != nil {
		return 0, err
	}
	err = l.audited(ctx, AuditEntry{Operation: "remove-block", Object: p.String()}, before, func() (any, error) {
		removed, err = service.RemoveBlock(ctx, p)
		return nil, err
	})
	return removed, err
}

// Blocks lists them by network.
func (l *Local) Blocks(ctx context.Context, p Page) ([]Block, string, error) {
	service, err := service[blocklist](l, "list blocks")
	if err != nil {
		return nil, "", err
	}
	if p.Limit, err = p.limit(); err != nil {
		return nil, "", fmt.Errorf("list blocks: %w", err)
	}
	return service.Blocks(ctx, p)
}

// WhyBlocked gives the blocks that cover an address.
func (l *Local) WhyBlocked(ctx context.Context, address netip.Addr) ([]Block, error) {
	service, err := service[blocklist](l, "find block")
	if err != nil {
		return nil, err
	}
	if !address.IsValid() {
		return nil, Invalid(fmt.Errorf("find block: no address is named"))
	}
	return service.WhyBlocked(ctx, address.Unmap().WithZone(""))
}

// ImportBlocks replaces the blocks of a source.
func (l *Local) ImportBlocks(ctx context.Context, source string, list io.Reader, expires time.Time) (added int, err error) {
	service, err := service[blocklist](l, "import blocks")
	if err != nil {
		return 0, err
	}
	if source == "" {
		return 0, Invalid(fmt.Errorf("import blocks: name the source, since the list replaces what it had before"))
	}
	err = l.audited(ctx, AuditEntry{Operation: "import-blocks", Object: source}, nil, func() (any, error) {
		added, err = service.ImportBlocks(ctx, source, list, expires)
		return map[string]int{"networks": added}, err
	})
	return added, err
}

// bruteforce is the service that keeps the locks.
type bruteforce interface {
	Locks(ctx context.Context, p Page) (list []Lock, next string, err error)
	Unlock(ctx context.Context, account string) error
}

// Locks lists them by account.
func (l *Local) Locks(ctx context.Context, p Page) ([]Lock, string, error) {
	service, err := service[bruteforce](l, "list locks")
	if err != nil {
		return nil, "", err
	}
	if p.Limit, err = p.limit(); err != nil {
		return nil, "", fmt.Errorf("list locks: %w", err)
	}
	return service.Locks(ctx, p)
}

// Unlock opens an account.
func (l *Local) Unlock(ctx context.Context, account string) error {
	service, err := service[bruteforce](l, "unlock account")
	if err != nil {
		return err
	}
	user, err := normal(account)
	if err != nil {
		return fmt.Errorf("unlock account: %w", err)
	}
	return l.audited(ctx, AuditEntry{Operation: "unlock-account", Object: user}, struct{}{}, func() (any, error) {
		return nil, service.Unlock(ctx, user)
	})
}

// greylist is the service that keeps the greylist.
type greylist interface {
	Triplets(ctx context.Context, f TripletFilter, p Page) (list []Triplet, next string, err error)
	ReleaseTriplet(ctx context.Context, id int64) error
	AllowGreylist(ctx context.Context, a Allowed) error
	DisallowGreylist(ctx context.Context, subject string) error
	GreylistAllowed(ctx context.Context, p Page) (list []Allowed, next string, err error)
}

// Triplets lists the entries of the greylist.
func (l *Local) Triplets(ctx context.Context, f TripletFilter, p Page) ([]Triplet, string, error) {
	service, err := service[greylist](l, "list greylist")
	if err != nil {
		return nil, "", err
	}
	if p.Limit, err = p.limit(); err != nil {
		return nil, "", fmt.Errorf("list greylist: %w", err)
	}
	return service.Triplets(ctx, f, p)
}

// ReleaseTriplet lets an entry pass.
func (l *Local) ReleaseTriplet(ctx context.Context, id int64) error {
	service, err := service[greylist](l, "release greylist entry")
	if err != nil {
		return err
	}
	return l.audited(ctx, AuditEntry{Operation: "release-triplet", Object: strconv.FormatInt(id, 10)}, nil, func() (any, error) {
		return nil, service.ReleaseTriplet(ctx, id)
	})
}

// AllowGreylist names a client or sender that is never deferred.
func (l *Local) AllowGreylist(ctx context.Context, a Allowed) error {
	service, err := service[greylist](l, "allow on greylist")
	if err != nil {
		return err
	}
	if a.Subject == "" {
		return Invalid(fmt.Errorf("allow on greylist: name an address, a network, a domain or a mail address"))
	}
	trail, err := l.trail()
	if err != nil {
		return err
	}
	a.Created = trail.now().UTC().Truncate(time.Microsecond)
	return trail.audited(ctx, AuditEntry{Operation: "allow-greylist", Object: a.Subject}, nil, func() (any, error) {
		return a, service.AllowGreylist(ctx, a)
	})
}

// DisallowGreylist takes one away.
func (l *Local) DisallowGreylist(ctx context.Context, subject string) error {
	service, err := service[greylist](l, "disallow on greylist")
	if err != nil {
		return err
	}
	return l.audited(ctx, AuditEntry{Operation: "disallow-greylist", Object: subject}, struct{}{}, func() (any, error) {
		return nil, service.DisallowGreylist(ctx, subject)
	})
}

// GreylistAllowed lists them.
func (l *Local) GreylistAllowed(ctx context.Context, p Page) ([]Allowed, string, error) {
	service, err := service[greylist](l, "list who is allowed on greylist")
	if err != nil {
		return nil, "", err
	}
	if p.Limit, err = p.limit(); err != nil {
		return nil, "", fmt.Errorf("list who is allowed on greylist: %w", err)
	}
	return service.GreylistAllowed(ctx, p)
}
