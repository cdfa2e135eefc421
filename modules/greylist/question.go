package greylist

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// key finds a triplet or a pair of correspondents: a hash of their names, so that
// indexes are small whatever strangers send.
type key [16]byte

func newKey(names ...string) key {
	text := make([]byte, 0, 256)
	for _, name := range names {
		text = append(append(text, name...), 0)
	}
	sum := sha256.Sum256(text)
	return key(sum[:len(key{})])
}

// question is what the service is asked at one recipient.
type question struct {
	client, sender, recipient string
	// user and correspondent are set if it counts that the one has written to the
	// other.
	user, correspondent string
	// passAfter is how many triplets must have passed of a client that passes
	// freely, 0 if none does.
	passAfter int
	// trial says that what comes of it is not remembered.
	trial bool
	policy
}

// policy is how long things take.
type policy struct {
	delay, window, expire time.Duration
}

// question describes the transaction; false for a client without an address.
func (g *Greylist) question(tx *mail.Transaction) (question, bool) {
	client, ok := g.client(tx)
	if !ok {
		return question{}, false
	}
	recipient := tx.Recipient.Address.Base().Fold()
	q := question{
		client: client, sender: senderName(normalSender(tx.Envelope.ReversePath)), recipient: bounded(recipient.String()),
		passAfter: g.PassAfter, policy: policy{delay: g.Delay, window: g.RetryWindow, expire: g.Expire},
	}
	if g.SkipCorrespondents && !tx.Envelope.ReversePath.IsNull() && !spfFailed(tx) {
		q.user, q.correspondent = q.recipient, bounded(plainAddress(tx.Envelope.ReversePath).String())
	}
	if g.Recipient == recipientDomain && recipient.Domain != "" {
		q.recipient = bounded(recipient.Domain)
	}
	return q, true
}

// client names the client: the domain that it is authenticated for, if that
// counts, else its network.
func (g *Greylist) client(tx *mail.Transaction) (string, bool) {
	if domain := spfPassed(tx); domain != "" && g.SPFPass == spfDomain {
		return bounded(domain), true
	}
	addr := tx.Session.RemoteAddr.Addr().Unmap()
	bits := g.IPv6Prefix
	if addr.Is4() {
		bits = g.IPv4Prefix
	}
	network, err := addr.WithZone("").Prefix(bits)
	if err != nil || !network.IsValid() {
		return "", false
	}
	return network.String(), true
}

// spfPassed gives the domain for which SPF has authenticated the client: that of
// the reverse-path or, if that is null, of HELO (RFC 7208 section 2.4); "" if
// none.
func spfPassed(tx *mail.Transaction) string {
	for _, r := range tx.AuthResults() {
		if r.Method != "spf" || r.Result != "pass" {
			continue
		}
		for _, p := range r.Properties {
			if p.Type == "smtp" && (p.Name == "mailfrom" || p.Name == "helo" && tx.Envelope.ReversePath.IsNull()) {
				domain := p.Value[strings.LastIndexByte(p.Value, '@')+1:]
				return strings.ToLower(domain)
			}
		}
	}
	return ""
}

// spfFailed tells whether SPF found the reverse-path forged.
func spfFailed(tx *mail.Transaction) bool {
	for _, r := range tx.AuthResults() {
		if r.Method == "spf" && r.Result == "fail" {
			return true
		}
	}
	return false
}

// answer is what the service found.
type answer struct {
	kind answerKind
	// triplet is set for the last three kinds.
	triplet triplet
	// passed is how many triplets of the client have passed, for answerClient.
	passed int
	now    time.Time
}

type answerKind uint8

const (
	answerCorrespondent answerKind = iota // the recipient has written to the sender
	answerClient                          // the client passes freely
	answerWait                            // the triplet must wait
	answerOpened                          // it passes for the first time
	answerKnown                           // it passes as before
)

// verdict puts the answer into words.
func (a answer) verdict(q question) mail.Verdict {
	t := a.triplet
	switch a.kind {
	case answerCorrespondent:
		return mail.Continue(fmt.Sprintf("not greylisted: %s has written to %s", q.user, q.correspondent))
	case answerClient:
		passed := fmt.Sprintf("%d triplets of %s have", a.passed, q.client)
		if a.passed == 1 {
			passed = fmt.Sprintf("1 triplet of %s has", q.client)
		}
		return mail.Continue(fmt.Sprintf("not greylisted: %s passed, pass_after is %d", passed, q.passAfter))
	case answerOpened:
		return mail.Continue(fmt.Sprintf("%s passes: retry %d came %s after the first attempt of %s, the delay is %s",
			q, t.attempts, formatDuration(a.now.Sub(t.first)), formatTime(t.first), formatDuration(q.delay)))
	case answerKnown:
		if t.passed == 1 {
			return mail.Continue(fmt.Sprintf("%s passes: first seen %s, and the operator released it", q, formatTime(t.first)))
		}
		return mail.Continue(fmt.Sprintf("%s passes: first seen %s, it has passed before, now %d times", q, formatTime(t.first), t.passed))
	case answerWait:
	}
	wait := t.retry.Sub(a.now)
	unit := "seconds"
	seconds := (wait + time.Second - 1) / time.Second
	if seconds == 1 {
		unit = "second"
	}
	reply := mail.NewReply(451, 7, 1, fmt.Sprintf("Greylisted, try again in %d %s", seconds, unit))
	from := formatTime(t.retry)
	if t.attempts == 1 {
		return mail.Defer(reply, fmt.Sprintf("%s: first seen now, passes from %s on", q, from))
	}
	return mail.Defer(reply, fmt.Sprintf("%s: first seen %s, retry %d is %s too early, passes from %s on",
		q, formatTime(t.first), t.attempts-1, formatDuration(wait), from))
}

// formatTime writes a time to the second.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// String names the triplet for people.
func (q question) String() string {
	return fmt.Sprintf("%s from %s to %s", q.sender, q.client, q.recipient)
}

// formatDuration writes a duration as the configuration does, to the second.
func formatDuration(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(time.Second)
	}
	return config.FormatDuration(d)
}

// clientMatches tells whether a client's name is the one looked for: a part of
// the name, or an address in the network.
func clientMatches(client, wanted string) bool {
	if addr, err := netip.ParseAddr(wanted); err == nil {
		network, err := netip.ParsePrefix(client)
		return err == nil && network.Contains(addr.Unmap())
	}
	return strings.Contains(client, wanted)
}
