package dkim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/dns"
)

const (
	// checkTimeout bounds all questions of a check together.
	checkTimeout = 20 * time.Second
	// checksAtOnce is how many are asked at a time.
	checksAtOnce = 8
)

// Check asks the DNS for every key of a domain.
func (s *Service) Check(ctx context.Context, d control.DKIMDomain) (*control.DKIMReport, error) {
	keys, err := s.Keys(ctx, d)
	if err != nil {
		return nil, err
	}
	r := &control.DKIMReport{Domain: d.Name, Keys: []control.DKIMKey{}}
	s.ask(ctx, keys)
	signs, managed := false, false
	for _, b := range d.Blocks {
		managed = managed || b.Managed
	}
	for i := range keys {
		k := &keys[i]
		signs = signs || k.State == control.DKIMInFile || k.State == control.DKIMActive && managed
		if k.State == control.DKIMRetired && len(k.Findings) == 0 {
			continue // its record has gone
		}
		if k.File != "" && k.State != control.DKIMInFile {
			s.checkFile(k)
		}
		r.Keys = append(r.Keys, *k)
	}
	switch {
	case len(d.Blocks) == 0:
		r.Findings = append(r.Findings, control.DKIMFinding{Code: "no-block", Text: fmt.Sprintf("the block domain %q has no dkim {}, and its mail is not signed", d.Name)})
	case !signs:
		r.Findings = append(r.Findings, control.DKIMFinding{
			Code: "unsigned", Wrong: true,
			Text: fmt.Sprintf("no key of %s is in use, and its mail is not signed; run: mox-like dkim keygen %s", d.Name, d.Name),
		})
	}
	return r, nil
}

// checkFile finds that the file of a key that is in use has gone or is another one.
func (s *Service) checkFile(k *control.DKIMKey) {
	if k.State == control.DKIMRetiring {
		return // it signs no more
	}
	private, err := loadOwn(k.File)
	text := ""
	open, isOpen := errors.AsType[*exposedError](err)
	switch {
	case isOpen:
		k.Findings = append(k.Findings, control.DKIMFinding{Code: "exposed", Text: open.Error() + "; if somebody may have read it, run 'mox-like dkim rotate " + k.Domain + "'", Wrong: true})
	case err != nil:
		text = err.Error()
	default:
		if record, err := private.record(); err != nil || record != k.Value {
			text = fmt.Sprintf("the file %s has another key than the one that was made", k.File)
		}
	}
	if text != "" {
		text += "; restore it from a backup, or run 'mox-like dkim rotate " + k.Domain + "'"
		k.Findings = append(k.Findings, control.DKIMFinding{Code: "unreadable", Text: text, Wrong: true})
	}
}

// ask asks the DNS for keys and adds what is found about each.
func (s *Service) ask(ctx context.Context, keys []control.DKIMKey) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(checksAtOnce)
	for i := range keys {
		group.Go(func() error {
			k := &keys[i]
			s.resolver.Forget(k.Name, dns.TypeTXT)
			records, err := s.resolver.LookupTXT(ctx, k.Name)
			if found := compare(k, records, err); found != nil {
				k.Findings = append(k.Findings, *found)
			}
			return nil
		})
	}
	_ = group.Wait() // none fails: an error is a finding
}

// compare holds what the DNS has against a key, and gives what is wrong with it.
func compare(k *control.DKIMKey, records []string, err error) *control.DKIMFinding {
	retired := k.State == control.DKIMRetired
	found := func(code, format string, args ...any) *control.DKIMFinding {
		return &control.DKIMFinding{Code: code, Text: fmt.Sprintf(format, args...), Wrong: !retired && k.State != control.DKIMPending}
	}
	switch {
	case errors.Is(err, dns.ErrNotFound), errors.Is(err, dns.ErrBadName):
		if retired {
			return nil
		}
		return found("missing", "the DNS has no record at %s", k.Name)
	case err != nil:
		if retired {
			return nil
		}
		f := found(control.DKIMUnknown, "%v; the name servers are those of the block dns, or of the system", err)
		f.Wrong = false // nobody knows
		return f
	}
	if len(records) > 1 {
		if n := countKeys(records); n != 1 || len(records) > maxKeyRecords {
			return found("several", "the DNS has %d TXT records at %s, and receivers may take any of them; leave one", len(records), k.Name)
		}
	}
	text := records[0]
	for _, r := range records {
		if looksLikeKey(r) {
			text = r
			break
		}
	}
	return compareRecord(k, text, found)
}

// compareRecord holds one record against a key.
func compareRecord(k *control.DKIMKey, text string, found func(code, format string, args ...any) *control.DKIMFinding) *control.DKIMFinding {
	public, err := parseKey(text)
	switch {
	case k.State == control.DKIMRetired && (errors.Is(err, errRevoked) || errors.Is(err, errNoRecord)):
		return nil
	case k.State == control.DKIMRetired:
		return found("leftover", "the private key is deleted, and the record at %s may be removed, or published with an empty p=", k.Name)
	case errors.Is(err, errRevoked):
		return found("revoked", "the record at %s revokes the key: its p= is empty", k.Name)
	case err != nil:
		return found("syntax", "the record at %s cannot be used: %v", k.Name, err)
	case k.Value == "":
		return nil // there is no key to compare with, which is found already
	}
	own, err := parseKey(k.Value)
	switch {
	case err != nil || !own.equal(public):
		return found("differs", "the record at %s has another key (%s) than this server (%s %d bits)", k.Name, public, k.Algorithm, k.Bits)
	case public.kind == kindRSA && public.bits < weakRSA:
		return found("weak", "the RSA key has %d bits, and many receivers take it for weak: use one of %d", public.bits, weakRSA)
	case public.testing:
		return found("testing", "the record at %s has t=y: the domain only tests DKIM, and receivers may ignore its signatures; remove it", k.Name)
	default:
		return nil
	}
}

// String names a public key by its kind and size.
func (k *publicKey) String() string { return fmt.Sprintf("%s %d bits", k.kind, k.bits) }

// equal tells whether two keys are the same.
func (k *publicKey) equal(other *publicKey) bool {
	switch {
	case k.kind != other.kind:
		return false
	case k.kind == kindEd25519:
		return k.ed.Equal(other.ed)
	default:
		return k.rsa.Equal(other.rsa)
	}
}

// looksLikeKey tells a record that is meant to be a key from others that some DNS
// servers give under every name.
func looksLikeKey(text string) bool {
	begins := compact(text[:min(len(text), 40)])
	return strings.HasPrefix(begins, "v=DKIM1") || strings.HasPrefix(begins, "p=") || strings.HasPrefix(begins, "k=")
}

// countKeys counts the records that are meant to be keys.
func countKeys(records []string) int {
	n := 0
	for _, r := range records {
		if looksLikeKey(r) {
			n++
		}
	}
	return n
}
