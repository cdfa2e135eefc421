package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// version begins every record.
const version = "v=spf1"

// mechanism is what a directive asks.
type mechanism uint8

const (
	mechanismAll mechanism = iota
	mechanismInclude
	mechanismA
	mechanismMX
	mechanismPTR
	mechanismIP4
	mechanismIP6
	mechanismExists
)

// mechanisms are their names.
var mechanisms = [...]string{"all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"}

// directive is a mechanism with the result that holds if it matches.
type directive struct {
	result    Result
	mechanism mechanism
	// domain is a domain-spec, "" for the domain of the record.
	domain string
	// network is that of ip4 and ip6.
	network netip.Prefix
	// bits4 and bits6 are the lengths of the networks of a and mx.
	bits4, bits6 int
	// term is the directive as it stands in the record.
	term string
}

// record is a parsed record (RFC 7208 section 12). Unknown modifiers are checked
// and forgotten.
type record struct {
	directives []directive
	// redirect and exp are domain-specs, "" if there is no such modifier.
	redirect, exp string
}

var (
	errMechanism   = errors.New("no such mechanism")
	errNoArgument  = errors.New("the mechanism takes no such argument")
	errNoDomain    = errors.New("the domain is missing")
	errNetwork     = errors.New("not an address or network")
	errPrefix      = errors.New("not a length of a network")
	errTwice       = errors.New("the modifier stands twice")
	errManyTerms   = errors.New("the record has too many terms")
	errBadModifier = errors.New("not the name of a modifier")
)

const (
	// maxTerms bounds what a record costs to parse. The longest in use have some
	// hundred.
	maxTerms = 2000
	// maxTerm is how much of a wrong term an error shows, in bytes.
	maxTerm = 100
)

// isRecord tells whether a text is an SPF record (RFC 7208 section 4.5).
func isRecord(text string) bool {
	return len(text) >= len(version) && strings.EqualFold(text[:len(version)], version) &&
		(len(text) == len(version) || text[len(version)] == ' ')
}

// parseRecord reads a text that isRecord. Every mistake in it is an error, also
// behind the term that would decide (RFC 7208 section 4.6).
func parseRecord(text string) (*record, error) {
	r := &record{directives: make([]directive, 0, min(maxTerms, 1+strings.Count(text, " ")))}
	terms := 0
	for term := range strings.SplitSeq(text[len(version):], " ") {
		if term == "" {
			continue
		}
		if terms++; terms > maxTerms {
			return nil, errManyTerms
		}
		if err := r.add(term); err != nil {
			return nil, fmt.Errorf("term %q: %w", oneLine(term, maxTerm), err)
		}
	}
	return r, nil
}

// add reads one term. It is a modifier if a = stands before any : and /.
func (r *record) add(term string) error {
	if i := strings.IndexAny(term, "=:/"); i >= 0 && term[i] == '=' {
		return r.addModifier(term[:i], term[i+1:])
	}
	d, err := parseDirective(term)
	if err != nil {
		return err
	}
	r.directives = append(r.directives, d)
	return nil
}

func (r *record) addModifier(name, value string) error {
	if !isModifierName(name) {
		return errBadModifier
	}
	switch {
	case strings.EqualFold(name, "redirect"):
		return setOnce(&r.redirect, value)
	case strings.EqualFold(name, "exp"):
		return setOnce(&r.exp, value)
	}
	_, _, err := checkMacros(value, macroLetters, false)
	return err
}

func setOnce(modifier *string, value string) error {
	if *modifier != "" {
		return errTwice
	}
	*modifier = value
	return checkDomainSpec(value)
}

func isModifierName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlpha(c) && (i == 0 || !isDigit(c) && strings.IndexByte("-_.", c) < 0) {
			return false
		}
	}
	return s != ""
}

// qualifiers are the results that the characters in front of a mechanism mean.
var qualifiers = map[byte]Result{'+': Pass, '-': Fail, '~': SoftFail, '?': Neutral}

func parseDirective(term string) (directive, error) {
	d := directive{result: Pass, term: term, bits4: 32, bits6: 128}
	if result, ok := qualifiers[term[0]]; ok {
		d.result, term = result, term[1:]
	}
	name, argument := term, ""
	if i := strings.IndexAny(term, ":/"); i >= 0 {
		name, argument = term[:i], term[i:]
	}
	for i, known := range mechanisms {
		if strings.EqualFold(name, known) {
			d.mechanism = mechanism(i)
			return d, d.parseArgument(argument)
		}
	}
	return d, errMechanism
}

// parseArgument reads what follows the name, with its : or /.
func (d *directive) parseArgument(argument string) error {
	switch d.mechanism {
	case mechanismAll:
		if argument != "" {
			return errNoArgument
		}
		return nil
	case mechanismIP4, mechanismIP6:
		return d.parseNetwork(argument)
	case mechanismA, mechanismMX:
		var err error
		if argument, err = d.cutPrefixes(argument); err != nil || argument == "" {
			return err
		}
	case mechanismPTR:
		if argument == "" {
			return nil
		}
	case mechanismInclude, mechanismExists:
	}
	domain, ok := strings.CutPrefix(argument, ":")
	if !ok {
		return errNoDomain
	}
	d.domain = domain
	return checkDomainSpec(domain)
}

// cutPrefixes reads the dual-cidr-length at the end. A domain before it cannot
// end in a / and digits.
func (d *directive) cutPrefixes(s string) (rest string, err error) {
	if i := strings.LastIndex(s, "//"); i >= 0 && isDigits(s[i+2:]) {
		if d.bits6, err = parseBits(s[i+2:], 128); err != nil {
			return "", err
		}
		s = s[:i]
	}
	if i := strings.LastIndexByte(s, '/'); i >= 0 && isDigits(s[i+1:]) {
		if d.bits4, err = parseBits(s[i+1:], 32); err != nil {
			return "", err
		}
		s = s[:i]
	}
	return s, nil
}

func (d *directive) parseNetwork(argument string) error {
	text, ok := strings.CutPrefix(argument, ":")
	if !ok {
		return errNetwork
	}
	most := 32
	if d.mechanism == mechanismIP6 {
		most = 128
	}
	bits := most
	text, length, ok := strings.Cut(text, "/")
	if ok {
		var err error
		if bits, err = parseBits(length, most); err != nil {
			return err
		}
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" || addr.BitLen() != most {
		return errNetwork
	}
	d.network = netip.PrefixFrom(addr, bits)
	return nil
}

// parseBits reads the length of a network, which has no leading zeros.
func parseBits(s string, most int) (int, error) {
	if !isDigits(s) || len(s) > 3 || s[0] == '0' && len(s) > 1 {
		return 0, errPrefix
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > most {
		return 0, errPrefix
	}
	return n, nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}
