package dmarc

import (
	"net/url"
	"strconv"
	"strings"
)

// Policy is what the owner of a domain asks for when a message fails (RFC 9989
// section 4.7), "" if the owner does not say.
type Policy string

// The policies, from the mildest on.
const (
	PolicyNone       Policy = "none"
	PolicyQuarantine Policy = "quarantine"
	PolicyReject     Policy = "reject"
)

// parsePolicy reads a policy in any case of letters.
func parsePolicy(s string) (Policy, bool) {
	switch p := Policy(strings.ToLower(s)); p {
	case PolicyNone, PolicyQuarantine, PolicyReject:
		return p, true
	default:
		return "", false
	}
}

// milder is the policy one level below (RFC 9989 section 4.7, the t tag).
func (p Policy) milder() Policy {
	if p == PolicyReject {
		return PolicyQuarantine
	}
	return PolicyNone
}

// record is a DMARC policy record. What it leaves out, or has wrong, has its
// default.
type record struct {
	// policy, subdomains and missing are p, sp and np.
	policy, subdomains, missing Policy
	// problem says why there is no policy to apply, "" if there is one.
	problem string
	// strictDKIM and strictSPF ask for equal domains (adkim, aspf).
	strictDKIM, strictSPF bool
	// percent is to how many of a hundred messages the policy applies (pct, of RFC
	// 7489 alone).
	percent int
	// test asks for a milder policy (t).
	test bool
	// psd is 'y', 'n' or 'u': a public suffix, an organizational domain, or unknown.
	psd byte
	// reports tells that there is somebody to send reports to (rua).
	reports bool
	// text is what was found in the DNS, for people.
	text string
}

// version is what makes a text a record; its letters' case counts.
const version = "DMARC1"

// parseRecord reads the text of a TXT record; false if it is no DMARC record, for
// which v must be the first tag. Unknown tags, those that stand again and those
// with wrong values are ignored (RFC 9989 sections 4.7 and 4.8).
func parseRecord(text string) (*record, bool) {
	first, rest, _ := strings.Cut(text, ";")
	if name, value, ok := parseTag(first); !ok || name != "v" || value != version || first[0] == ' ' || first[0] == '\t' {
		return nil, false
	}
	tags := make(map[string]string, 8)
	for part := range strings.SplitSeq(rest, ";") {
		name, value, ok := parseTag(part)
		if _, again := tags[name]; ok && !again && isKnown(name) {
			tags[name] = value
		}
	}
	r := &record{
		strictDKIM: strings.EqualFold(tags["adkim"], "s"), strictSPF: strings.EqualFold(tags["aspf"], "s"),
		test: strings.EqualFold(tags["t"], "y"), percent: 100, psd: 'u', reports: hasURI(tags["rua"]),
	}
	switch strings.ToLower(tags["psd"]) {
	case "y":
		r.psd = 'y'
	case "n":
		r.psd = 'n'
	}
	if n, err := strconv.Atoi(tags["pct"]); err == nil && n >= 0 && n <= 100 && len(tags["pct"]) <= 3 {
		r.percent = n
	}
	r.setPolicies(tags)
	return r, true
}

// isKnown tells whether a tag means something here.
func isKnown(name string) bool {
	switch name {
	case "p", "sp", "np", "adkim", "aspf", "t", "psd", "pct", "rua":
		return true
	default:
		return false
	}
}

// parseTag reads name=value; the name in lower case.
func parseTag(part string) (name, value string, ok bool) {
	const space = " \t"
	name, value, ok = strings.Cut(part, "=")
	name, value = strings.ToLower(strings.Trim(name, space)), strings.Trim(value, space)
	return name, value, ok && name != "" && value != ""
}

// setPolicies reads p, sp and np. A record in which one of them is wrong, or p is
// missing, stands for p=none if it asks for reports, and else for none at all (RFC
// 9989 section 4.10.1).
func (r *record) setPolicies(tags map[string]string) {
	for name, field := range map[string]*Policy{"p": &r.policy, "sp": &r.subdomains, "np": &r.missing} {
		value, there := tags[name]
		p, ok := parsePolicy(value)
		if ok {
			*field = p
		} else if there || name == "p" {
			r.problem = "it has no valid p, or a wrong sp or np, and no rua"
		}
	}
	if r.problem == "" {
		return
	}
	r.policy, r.subdomains, r.missing = PolicyNone, "", ""
	if r.reports {
		r.problem = ""
	}
}

// hasURI tells whether a rua has an address to which reports can go (RFC 9989
// section 4.7), with or without the size that RFC 7489 lets stand behind it.
func hasURI(list string) bool {
	for text := range strings.SplitSeq(list, ",") {
		text, _, _ = strings.Cut(strings.Trim(text, " \t"), "!")
		u, err := url.Parse(text)
		if err == nil && u.Scheme != "" && (u.Opaque != "" || u.Host != "") {
			return true
		}
	}
	return false
}

// of gives the policy for a domain, and the tag that it stands in: the record's own
// domain, or one below it that exists or not.
func (r *record) of(below, exists bool) (p Policy, tag string) {
	switch {
	case below && !exists && r.missing != "":
		return r.missing, "np"
	case below && r.subdomains != "":
		return r.subdomains, "sp"
	default:
		return r.policy, "p"
	}
}
