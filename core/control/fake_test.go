package control_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// security is a service with what several modules do, in memory.
type security struct {
	mu      sync.Mutex
	apps    []control.AppPassword
	factor  map[string]*control.SecondFactor
	blocks  []control.Block
	locks   []control.Lock
	list    []control.Triplet
	allowed []control.Allowed
}

// goodCode is the one that the fake takes.
const goodCode = "123456"

var created = time.Unix(1_700_000_000, 0).UTC()

func newSecurity() *security {
	return &security{
		factor: make(map[string]*control.SecondFactor),
		locks: []control.Lock{
			{Account: "alice@example.test", Reason: "12 failures in 15m", Evidence: "from 9 networks", Created: created, Expires: created.Add(time.Hour)},
			{Account: "bob@example.test", Reason: "5 failures in 15m", Created: created, Expires: created.Add(time.Hour)},
		},
		list: []control.Triplet{
			{ID: 1, Client: "192.0.2.0/24", Sender: "news@example.org", Recipient: "alice@example.test", State: "greylisted", First: created, Last: created, Retry: created.Add(time.Minute), Expires: created.Add(time.Hour), Attempts: 1},
			{ID: 2, Client: "example.org", Sender: "bob@example.org", Recipient: "example.test", State: "passed", First: created, Last: created, Expires: created.Add(time.Hour), Passed: 3},
		},
	}
}

func (*security) Module() core.Info {
	return core.Info{ID: "service.security", New: func() core.Module { return newSecurity() }}
}

// page cuts a page out of a list whose entries have ordered keys.
func page[T any](all []T, p control.Page, key func(T) string) (list []T, next string, err error) { //nolint:unparam // in the form of its callers
	for _, e := range all {
		if p.After == "" || key(e) > p.After {
			list = append(list, e)
		}
	}
	if len(list) > p.Limit {
		return list[:p.Limit], key(list[p.Limit-1]), nil
	}
	return list, "", nil
}

func (s *security) AddAppPassword(_ context.Context, p control.AppPassword) (mail.Secret, control.AppPassword, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Name == "" {
		return "", control.AppPassword{}, control.Invalid(errors.New("add app password: it has no name"))
	}
	p.ID, p.Created = fmt.Sprintf("id%d", len(s.apps)+1), created
	s.apps = append(s.apps, p)
	return "topsecret-" + mail.Secret(p.ID), p, nil
}

func (s *security) AppPasswords(_ context.Context, account string) ([]control.AppPassword, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []control.AppPassword
	for _, p := range s.apps {
		if p.Account == account {
			list = append(list, p)
		}
	}
	return list, nil
}

func (s *security) RevokeAppPassword(_ context.Context, account, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.apps)
	s.apps = slices.DeleteFunc(s.apps, func(p control.AppPassword) bool { return p.Account == account && p.ID == id })
	if len(s.apps) == before {
		return store.ErrNotFound
	}
	return nil
}

func (s *security) state(account string) *control.SecondFactor {
	if s.factor[account] == nil {
		s.factor[account] = &control.SecondFactor{Account: account, State: "off"}
	}
	return s.factor[account]
}

func (s *security) EnrolTOTP(_ context.Context, account string) (control.Enrolment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.state(account)
	if f.State == "on" {
		return control.Enrolment{}, fmt.Errorf("enrol %s: %w", account, store.ErrExists)
	}
	f.State, f.Enrolled, f.RecoveryCodes = "pending", created, 2
	return control.Enrolment{Account: account, Secret: "TOPSECRET", URI: "otpauth://totp/TOPSECRET", RecoveryCodes: []mail.Secret{"topsecret1", "topsecret2"}}, nil
}

func (s *security) ConfirmTOTP(_ context.Context, account string, code mail.Secret) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.state(account)
	switch {
	case f.State != "pending":
		return fmt.Errorf("confirm second factor of %s: %w", account, store.ErrNotFound)
	case code != goodCode:
		return control.Invalid(errors.New("the code is wrong: look at the clock of the authenticator"))
	}
	f.State = "on"
	return nil
}

func (s *security) RemoveTOTP(_ context.Context, account string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state(account).State == "off" {
		return store.ErrNotFound
	}
	delete(s.factor, account)
	return nil
}

func (s *security) SecondFactor(_ context.Context, account string) (control.SecondFactor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.state(account), nil
}

func (s *security) SetAppendCode(_ context.Context, account string, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state(account).AppendCode = on
	return nil
}

func (s *security) VerifyTOTP(_ context.Context, _ string, code mail.Secret) (bool, error) {
	return code == goodCode, nil
}

func (s *security) AddBlock(_ context.Context, b control.Block) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.Created = created
	s.blocks = slices.DeleteFunc(s.blocks, func(o control.Block) bool { return o.Network == b.Network && o.Source == b.Source })
	s.blocks = append(s.blocks, b)
	slices.SortFunc(s.blocks, func(a, b control.Block) int {
		return cmp.Or(cmp.Compare(a.Network.String(), b.Network.String()), cmp.Compare(a.Source, b.Source))
	})
	return nil
}

func (s *security) RemoveBlock(_ context.Context, network netip.Prefix) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.blocks)
	s.blocks = slices.DeleteFunc(s.blocks, func(o control.Block) bool { return o.Network == network })
	if n := before - len(s.blocks); n > 0 {
		return n, nil
	}
	return 0, fmt.Errorf("remove block of %s: %w", network, store.ErrNotFound)
}

func (s *security) Blocks(_ context.Context, p control.Page) ([]control.Block, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return page(s.blocks, p, func(b control.Block) string { return b.Network.String() })
}

func (s *security) WhyBlocked(_ context.Context, address netip.Addr) ([]control.Block, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []control.Block
	for _, b := range s.blocks {
		if b.Network.Contains(address) {
			list = append(list, b)
		}
	}
	return list, nil
}

func (s *security) ImportBlocks(ctx context.Context, source string, list io.Reader, expires time.Time) (int, error) {
	lines := bufio.NewScanner(list)
	n := 0
	for lines.Scan() {
		n++
		network, err := netip.ParsePrefix(lines.Text())
		if err != nil {
			return 0, control.Invalid(fmt.Errorf("line %d: %w", n, err))
		}
		if err := s.AddBlock(ctx, control.Block{Network: network, Source: source, Expires: expires}); err != nil {
			return 0, err
		}
	}
	return n, lines.Err()
}

func (s *security) Locks(_ context.Context, p control.Page) ([]control.Lock, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return page(s.locks, p, func(l control.Lock) string { return l.Account })
}

func (s *security) Unlock(_ context.Context, account string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.locks)
	s.locks = slices.DeleteFunc(s.locks, func(l control.Lock) bool { return l.Account == account })
	if len(s.locks) == before {
		return fmt.Errorf("unlock account %q: %w", account, store.ErrNotFound)
	}
	return nil
}

func (s *security) Triplets(_ context.Context, f control.TripletFilter, p control.Page) ([]control.Triplet, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []control.Triplet
	for _, t := range s.list {
		fits := func(want, has string) bool { return want == "" || want == has }
		if fits(f.State, t.State) && fits(f.Client, t.Client) && fits(f.Sender, t.Sender) && fits(f.Recipient, t.Recipient) {
			list = append(list, t)
		}
	}
	return page(list, p, func(t control.Triplet) string { return strconv.FormatInt(t.ID, 10) })
}

func (s *security) ReleaseTriplet(_ context.Context, id int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.list {
		if s.list[i].ID == id {
			s.list[i].State = "passed"
			return nil
		}
	}
	return fmt.Errorf("release greylist entry %d: %w", id, store.ErrNotFound)
}

func (s *security) AllowGreylist(_ context.Context, a control.Allowed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.Created = created
	s.allowed = append(s.allowed, a)
	return nil
}

func (s *security) DisallowGreylist(_ context.Context, subject string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.allowed)
	s.allowed = slices.DeleteFunc(s.allowed, func(a control.Allowed) bool { return a.Subject == subject })
	if len(s.allowed) == before {
		return fmt.Errorf("disallow %q: %w", subject, store.ErrNotFound)
	}
	return nil
}

func (s *security) GreylistAllowed(_ context.Context, p control.Page) ([]control.Allowed, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return page(s.allowed, p, func(a control.Allowed) string { return a.Subject })
}
