package dkim

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// vouching is what a trusted sealer says of a message as it came to him.
type vouching struct {
	instance int
	// sealer is the SDID of his seal.
	sealer string
	// dmarc is the result of DMARC that he found, and author the domain in From that
	// it is about, in lower case; "" if he does not say.
	dmarc, author string
	// found are the results of SPF, DKIM and DMARC in words.
	found string
}

// vouched gives what the first sealer says whom one can believe: from whom on all
// sealers are trusted, and who has a result of DMARC. It is nil if there is none, or
// if the chain does not pass. A key that is only for tests (t=y) makes no trust.
func (r *arcReport) vouched(h mail.HeaderSection, trusted []string) *vouching {
	if r.result != chainPass {
		return nil
	}
	var first *vouching
	for i := r.last; i > 0; i-- {
		set := &r.sets[i-1]
		if !slices.Contains(trusted, set.seal.domain) || set.seal.key.testing {
			break
		}
		if v := readVouching(h.Fields[set.positions[arcResults]]); v != nil {
			v.instance, v.sealer = i, set.seal.domain
			first = v
		}
	}
	return first
}

// readVouching reads a field ARC-Authentication-Results; nil if it cannot be read or
// has no result of DMARC, or several.
func readVouching(field mail.HeaderField) *vouching {
	_, text, _ := strings.Cut(field.Value(), ";")
	_, results, err := mail.ParseAuthResults(text)
	if err != nil {
		return nil
	}
	v := new(vouching)
	var found []string
	for _, r := range results {
		if !isWord(r.Result) {
			return nil
		}
		switch r.Method {
		case "dmarc":
			if v.dmarc != "" {
				return nil
			}
			v.dmarc = r.Result
			for _, p := range r.Properties {
				if p.Type == "header" && p.Name == "from" {
					// Some write the whole address.
					v.author, _ = asciiName(p.Value[strings.LastIndexByte(p.Value, '@')+1:])
				}
			}
		case "spf", "dkim":
		default:
			continue
		}
		if word := r.Method + "=" + r.Result; !slices.Contains(found, word) && len(found) < maxFound {
			found = append(found, word)
		}
	}
	if v.dmarc == "" {
		return nil
	}
	v.found = strings.Join(found, ", ")
	return v
}

// maxFound bounds the results in a reason.
const maxFound = 6

// authResult is the result for the other handlers and Authentication-Results (RFC 8617
// section 10.1). What a trusted sealer has found stands in policy.trusted, which is
// his domain, policy.dmarc and header.from.
func (r *arcReport) authResult(client netip.Addr, v *vouching) mail.AuthResult {
	result := mail.AuthResult{Method: "arc", Result: r.result, Reason: asciiOnly(mail.Printable(r.words(v), maxResultReason))}
	add := func(typ, name, value string) {
		result.Properties = append(result.Properties, mail.Property{Type: typ, Name: name, Value: value})
	}
	if client.IsValid() {
		add("smtp", "remote-ip", client.Unmap().WithZone("").String())
	}
	if r.result == chainPass {
		add("header", "oldest-pass", strconv.Itoa(r.oldest))
	}
	if v != nil {
		add("policy", "trusted", v.sealer)
		add("policy", "dmarc", v.dmarc)
		if v.author != "" {
			add("header", "from", v.author)
		}
	}
	return result
}

// words says what was found, for people.
func (r *arcReport) words(v *vouching) string {
	switch r.result {
	case chainNone:
		return ""
	case chainFail:
		return r.reason
	}
	newest := r.sets[r.last-1].seal.domain
	text := strconv.Itoa(r.last) + " sets, the last by " + newest
	if r.last == 1 {
		text = "one set, by " + newest
	}
	if v != nil {
		text += "; " + v.sealer + " is trusted and found in i=" + strconv.Itoa(v.instance) + ": " + v.found
	}
	return text
}
