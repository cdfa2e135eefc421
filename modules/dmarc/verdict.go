package dmarc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// What the settings can ask for.
const (
	actionAccept     = "accept"
	actionTag        = "tag"
	actionQuarantine = "quarantine"
	actionDefer      = "defer"
	actionReject     = "reject"
)

// actions has them from the mildest on.
var actions = [...]string{actionAccept, actionTag, actionQuarantine, actionDefer, actionReject}

// Bounds of what goes into a trace and into a reply, in bytes.
const (
	maxReason = 480
	maxReply  = 400
	maxRecord = 160
	maxShown  = 4 // identifiers in a reason
)

// action gives what is to be done about a finding, and why if that is neither the
// policy nor what the settings make of it: an override or a trusted seal. The operator
// has written an override for the domain, and knows it better than who is trusted in
// general, so that it goes first.
func (d *DMARC) action(tx *mail.Transaction, f *finding) (action, because string) {
	if f.result != resultFail && f.result != resultTempError {
		return actionAccept, ""
	}
	override, name := d.override(f.author)
	switch sealer := sealedBy(tx, f.author); {
	case override != "" && (f.result == resultFail || override == actionAccept):
		return override, "the override for " + name + " says " + override
	case override == "" && sealer != "":
		return actionAccept, "ARC saves it: " + sealer + " is trusted and has sealed that DMARC passed there"
	case f.result == resultFail:
		return d.applied(f.applied), ""
	case override == "" && f.applied == PolicyNone:
		return actionAccept, "no policy is against it"
	case f.unasked && d.TempError == actionDefer:
		return actionAccept, "to try again would change nothing"
	default:
		return d.TempError, ""
	}
}

// override gives what the settings say of a domain or the longest one above it that
// they name, "" if they say nothing.
func (d *DMARC) override(author string) (action, name string) {
	for name = author; name != ""; _, name, _ = strings.Cut(name, ".") {
		if action, ok := d.overrides[name]; ok {
			return action, name
		}
	}
	return "", ""
}

// applied gives what the settings make of a policy.
func (d *DMARC) applied(p Policy) string {
	switch p {
	case PolicyReject:
		return d.Reject
	case PolicyQuarantine:
		return d.Quarantine
	default:
		return d.None
	}
}

// sealedBy gives the trusted sealer of a message's ARC chain who found that DMARC
// passes for the author's domain, "" if there is none. arc_verify says so by the
// properties of its result.
func sealedBy(tx *mail.Transaction, author string) string {
	for _, r := range tx.AuthResults() {
		if r.Method != "arc" || r.Result != resultPass {
			continue
		}
		said := make(map[string]string, len(r.Properties))
		for _, p := range r.Properties {
			said[p.Type+"."+p.Name] = p.Value
		}
		if said["policy.dmarc"] == resultPass && normal(said["header.from"]) == author {
			return said["policy.trusted"]
		}
	}
	return ""
}

// judge gives the severest verdict that the settings have for the findings: of
// several authors' domains those count that fail (RFC 7489 section 6.6.1).
func (d *DMARC) judge(tx *mail.Transaction, findings []*finding) mail.Verdict {
	var reasons []string
	worst, level := findings[0], 0
	for _, f := range findings {
		action, because := d.action(tx, f)
		reason := f.String()
		if because != "" {
			// It comes first: the rest may be cut.
			reason = because + "; " + reason
		}
		reasons = append(reasons, mail.Printable(reason, maxReason/len(findings)-4))
		tx.SetAuthResult(f.authResult())
		if action == actionTag {
			tx.AddTag("dmarc=" + f.result)
		}
		if l := slices.Index(actions[:], action); l > level {
			worst, level = f, l
		}
	}
	return verdict(actions[level], worst.reply(actions[level]), strings.Join(reasons, "; "))
}

// verdict makes a verdict of an action.
func verdict(action string, reply mail.Reply, reason string) mail.Verdict {
	switch action {
	case actionQuarantine:
		return mail.Quarantine(reason)
	case actionDefer:
		return mail.Defer(reply, reason)
	case actionReject:
		return mail.Reject(reply, reason)
	default:
		return mail.Continue(reason)
	}
}

// reply is what the client is told.
func (f *finding) reply(action string) mail.Reply {
	if action == actionDefer {
		return mail.NewReply(451, 4, 3, mail.Printable("DMARC policy of "+f.author+" cannot be evaluated now, try again later", maxReply))
	}
	// RFC 7372 section 3.4.
	return mail.NewReply(550, 7, 26, mail.Printable(fmt.Sprintf(
		"DMARC: neither SPF nor DKIM shows that this message is from %s, whose policy is %s", f.author, f.policy), maxReply))
}

// String says what was found, for the operator, and the record as its owner has
// written it.
func (f *finding) String() string {
	text := f.author + ": " + f.result + ", " + f.explain()
	switch {
	case f.record != nil:
		return fmt.Sprintf("%s; _dmarc.%s has %q", text, f.domain, mail.Printable(f.text, maxRecord))
	case f.problem == "":
		return text + " at _dmarc." + f.author + " or above it"
	default:
		return text
	}
}

// explain says where the record is, and what it was held against.
func (f *finding) explain() string {
	switch {
	case f.problem != "":
		return f.problem
	case f.record == nil:
		return "no record"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s=%s of _dmarc.%s", f.tag, f.policy, f.domain)
	if f.milder != "" && f.result == resultFail {
		fmt.Fprintf(&b, ", %s because of %s", f.applied, f.milder)
	}
	if f.strictSPF || f.strictDKIM {
		b.WriteString(", strict for " + strictFor(f.record))
	}
	shown := 0
	for _, id := range f.ids {
		if f.result == resultPass && (id.result != resultPass || id.unaligned) {
			continue
		}
		if shown++; shown > maxShown {
			b.WriteString("; and others")
			break
		}
		b.WriteString("; " + id.String())
	}
	return b.String()
}

func strictFor(r *record) string {
	switch {
	case r.strictSPF && r.strictDKIM:
		return "SPF and DKIM"
	case r.strictSPF:
		return "SPF"
	default:
		return "DKIM"
	}
}

// authResult is the result for the other handlers (RFC 7489 section 11.1).
func (f *finding) authResult() mail.AuthResult {
	r := mail.AuthResult{
		Method: "dmarc", Result: f.result,
		Properties: []mail.Property{{Type: "header", Name: "from", Value: f.author}},
	}
	if f.result != resultPass {
		r.Reason = mail.Printable(f.explain(), maxReply)
	}
	if f.applied != "" {
		r.Properties = append(r.Properties, mail.Property{Type: "policy", Name: "dmarc", Value: string(f.applied)})
	}
	return r
}
