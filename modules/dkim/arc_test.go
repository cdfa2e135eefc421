package dkim

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestARCRules holds the rules of RFC 8617 one by one.
func TestARCRules(t *testing.T) {
	t.Parallel()
	change := func(i int, how func(*set)) set {
		s := setOf(i)
		how(&s)
		return s
	}
	message := func(old, now string) set {
		return change(1, func(s *set) { s.message = strings.Replace(s.message, old, now, 1) })
	}
	seal := func(i int, old, now string) set {
		return change(i, func(s *set) { s.seal = strings.Replace(s.seal, old, now, 1) })
	}
	results := func(text string) set { return change(1, func(s *set) { s.results = text }) }
	by := func(name string) set {
		return change(1, func(s *set) {
			s.key = name
			if testKeys()[name] == nil {
				s.key = "rsa"
			}
			s.message, s.seal = strings.Replace(s.message, "s=rsa", "s="+name, 1), strings.Replace(s.seal, "s=rsa", "s="+name, 1)
		})
	}
	ed := by("ed25519")
	ed.message, ed.seal = strings.Replace(ed.message, "rsa-sha256", "ed25519-sha256", 1), strings.Replace(ed.seal, "rsa-sha256", "ed25519-sha256", 1)
	one, three := chainOf(t, small, 1), chainOf(t, small, 3)
	fields, rest := cutFields(three)
	slices.Reverse(fields[:9])
	shuffled := strings.Join(fields, "") + rest
	hour := func(n int) int64 { return noon.Add(time.Duration(n) * time.Hour).Unix() }
	tests := map[string]struct {
		raw, result, reason string
		oldest              int
	}{
		"no chain":         {raw: small, result: "none"},
		"one set":          {raw: one, result: "pass"},
		"three sets":       {raw: three, result: "pass"},
		"fields anyhow":    {raw: shuffled, result: "pass"},
		"50 sets":          {raw: chainOf(t, small, 50), result: "pass"},
		"51 sets":          {raw: chainOf(t, small, 51), result: "fail", reason: "i=51 is no number from 1 to 50"},
		"ed25519":          {raw: arcCraft(t, small, ed), result: "pass"},
		"two kinds of key": {raw: arcCraft(t, small, ed, setOf(2)), result: "pass"},

		// Structure (sections 4.2 and 5.2, step 3).
		"no results":                {raw: without(t, three, "ARC-Authentication-Results", 1), result: "fail", reason: "there is no ARC-Authentication-Results of i=2"},
		"no signature":              {raw: without(t, three, "ARC-Message-Signature", 2), result: "fail", reason: "there is no ARC-Message-Signature of i=1"},
		"no seal":                   {raw: without(t, three, "ARC-Seal", 0), result: "fail", reason: "there is no ARC-Seal of i=3"},
		"results alone":             {raw: without(t, without(t, one, "ARC-Seal", 0), "ARC-Message-Signature", 0), result: "fail", reason: "there is no ARC-Message-Signature of i=1"},
		"two results":               {raw: arcFields[arcResults] + ": i=1; x; none\r\n" + one, result: "fail", reason: "there are two ARC-Authentication-Results of i=1"},
		"two signatures":            {raw: arcFields[arcMessage] + ": i=1\r\n" + one, result: "fail", reason: "there are two ARC-Message-Signature of i=1"},
		"two seals":                 {raw: "arc-seal: i=1\r\n" + one, result: "fail", reason: "there are two ARC-Seal of i=1"},
		"a set is missing":          {raw: arcCraft(t, one, setOf(3)), result: "fail", reason: "there is no ARC-Authentication-Results of i=2"},
		"the first set is missing":  {raw: arcCraft(t, small, setOf(2)), result: "fail", reason: "there is no ARC-Authentication-Results of i=1"},
		"instance 0":                {raw: arcCraft(t, small, setOf(0)), result: "fail", reason: "i=0 is no number"},
		"no instance":               {raw: arcCraft(t, small, seal(1, "i=1; ", "")), result: "fail", reason: "it has no i="},
		"empty instance":            {raw: arcCraft(t, small, seal(1, "i=1;", "i=;")), result: "fail", reason: "i= is no number"},
		"instance with a sign":      {raw: arcCraft(t, small, seal(1, "i=1;", "i=+1;")), result: "fail", reason: "i=+1 is no number"},
		"instance is a word":        {raw: arcCraft(t, small, message("i=1;", "i=one;")), result: "fail", reason: "i=one is no number"},
		"results without instance":  {raw: arcCraft(t, small, results("lists.example.org; spf=pass")), result: "fail", reason: "is no tag"},
		"results without semicolon": {raw: arcCraft(t, small, results("i=1")), result: "fail", reason: "it does not begin with i="},
		"results with comments":     {raw: arcCraft(t, small, results("(a\\)(b) i=2) i = (c) 1 ; lists.example.org; none")), result: "pass"},
		"instance twice":            {raw: arcCraft(t, small, message("i=1;", "i=1; i=1;")), result: "fail", reason: "tag i= stands twice"},

		// The status of the chain (sections 4.3 and 5.2).
		"first seal says pass":       {raw: arcCraft(t, small, seal(1, "cv=none", "cv=pass")), result: "fail", reason: "the seal i=1 says cv=pass, not none"},
		"second seal says none":      {raw: arcCraft(t, one, seal(2, "cv=pass", "cv=none")), result: "fail", reason: "the seal i=2 says cv=none, not pass"},
		"second seal says nonsense":  {raw: arcCraft(t, one, seal(2, "cv=pass", "cv=good")), result: "fail", reason: "the seal i=2 says cv=good, not pass"},
		"no status":                  {raw: arcCraft(t, one, seal(2, "cv=pass; ", "")), result: "fail", reason: "it has no cv="},
		"status in capitals":         {raw: arcCraft(t, small, seal(1, "cv=none", "cv=None")), result: "pass"},
		"newest seal says fail":      {raw: arcCraft(t, one, seal(2, "cv=pass", "cv=fail")), result: "fail", reason: "example.org has found that the chain is broken (cv=fail, i=2)"},
		"only seal says fail":        {raw: arcCraft(t, small, seal(1, "cv=none", "cv=fail")), result: "fail", reason: "example.org has found that the chain is broken (cv=fail, i=1)"},
		"a seal goes on after fail":  {raw: arcCraft(t, one, seal(2, "cv=pass", "cv=fail"), setOf(3)), result: "fail", reason: "the seal i=2 says cv=fail, not pass"},
		"fail counts before a fault": {raw: without(t, arcCraft(t, one, seal(2, "cv=pass", "cv=fail")), "ARC-Authentication-Results", 1), result: "fail", reason: "(cv=fail, i=2)"},

		// Seals (section 4.1.3).
		"seal with h=":         {raw: arcCraft(t, small, seal(1, "cv=none", "cv=none; h=from")), result: "fail", reason: "it has h=, which a seal must not have"},
		"seal without d=":      {raw: arcCraft(t, small, seal(1, "d=example.org; ", "")), result: "fail", reason: "it has no d="},
		"seal without s=":      {raw: arcCraft(t, small, seal(1, "; s=rsa", "")), result: "fail", reason: "it has no s="},
		"seal of rsa-sha1":     {raw: arcCraft(t, small, seal(1, "rsa-sha256", "rsa-sha1")), result: "fail", reason: "rsa-sha1"},
		"seal with other tags": {raw: arcCraft(t, small, seal(1, "cv=none", "cv=none; t=1; xyz=1")), result: "pass"},
		"seal of another key":  {raw: arcCraft(t, small, seal(1, "s=rsa", "s=other")), result: "fail", reason: "the ARC-Seal i=1 of example.org: the signature does not fit"},
		"seal without a key":   {raw: arcCraft(t, small, seal(1, "s=rsa", "s=none")), result: "fail", reason: "there is no key at none._domainkey.example.org"},
		"seal is cut":          {raw: strings.Replace(one, "ARC-Seal: i=1", "ARC-Seal: i=1; q", 1), result: "fail", reason: "is no tag"},

		// Message signatures (section 4.1.2).
		"signs the seal":          {raw: arcCraft(t, small, message("h=from", "h=arc-seal:from")), result: "fail", reason: "it signs ARC-Seal, which it must not"},
		"does not sign From":      {raw: arcCraft(t, small, message("h=from:to", "h=to")), result: "fail", reason: "the From field is not signed"},
		"no h=":                   {raw: arcCraft(t, small, message("; h=from:to:subject", "")), result: "fail", reason: "it has no h="},
		"simple/simple":           {raw: arcCraft(t, small, message("relaxed/relaxed", "simple/simple")), result: "pass"},
		"no c=":                   {raw: arcCraft(t, small, message("c=relaxed/relaxed; ", "")), result: "pass"},
		"other tags":              {raw: arcCraft(t, small, message("h=", "v=7; xyz=1; h=")), result: "pass"},
		"has expired":             {raw: arcCraft(t, small, message("h=", fmt.Sprintf("x=%d; h=", hour(-1)))), result: "fail", reason: "it expired on"},
		"has not expired":         {raw: arcCraft(t, small, message("h=", fmt.Sprintf("x=%d; h=", hour(1)))), result: "pass"},
		"l= of the whole body":    {raw: arcCraft(t, small, message("h=", "l=8; h=")), result: "pass"},
		"l= of a part":            {raw: arcCraft(t, small, message("h=", "l=5; h=")), result: "fail", reason: "l=5 leaves the last 3 bytes of the body unsigned"},
		"key of 1024 bits":        {raw: arcCraft(t, small, by("weak")), result: "pass"},
		"key is revoked":          {raw: arcCraft(t, small, by("revoked")), result: "fail", reason: "the key is revoked"},
		"key does not come":       {raw: arcCraft(t, small, by("silent")), result: "fail", reason: "the key cannot be looked up"},
		"another From":            {raw: "From: eve@example.net\r\n" + one, result: "fail", reason: "there are 2 From fields, and 1 signed"},
		"the body was changed":    {raw: one + "x\r\n", result: "fail", reason: "the ARC-Message-Signature i=1 of example.org: the body was changed"},
		"the subject was changed": {raw: strings.Replace(three, "Subject: hi", "Subject: ho", 1), result: "fail", reason: "the ARC-Message-Signature i=3 of example.org: the signature does not fit"},
		"another field":           {raw: "X-New: 1\r\n" + three, result: "pass"},

		// Only the newest message signature has to be good (section 5.2, steps 4 and 5).
		"changed on the way":    {raw: arcCraft(t, chainOf(t, small, 2)+"footer\r\n", setOf(3)), result: "pass", oldest: 3},
		"changed early":         {raw: arcCraft(t, chainOf(t, small, 1)+"footer\r\n", setOf(2), setOf(3)), result: "pass", oldest: 2},
		"an old one unreadable": {raw: arcCraft(t, small, message("h=from:to", "h=to"), setOf(2)), result: "pass", oldest: 2},
		"an old one with l=":    {raw: arcCraft(t, small, message("h=", "l=8; h="), setOf(2)), result: "pass", oldest: 2},

		// All seals have to be good (section 5.2, step 6).
		"old results were changed":   {raw: strings.Replace(three, "i=1; lists.example.org; spf=pass", "i=1; lists.example.org; spf=fail", 1), result: "fail", reason: "the ARC-Seal i=3 of example.org: the signature does not fit"},
		"old signature was changed":  {raw: strings.Replace(three, "i=1; a=rsa-sha256; c", "i=1; z=; a=rsa-sha256; c", 1), result: "fail", reason: "the ARC-Seal i=3 of example.org: the signature does not fit"},
		"old seal was changed":       {raw: strings.Replace(three, "cv=none;", "cv=none; t=1;", 1), result: "fail", reason: "the ARC-Seal i=3 of example.org: the signature does not fit"},
		"sealed over a broken seal":  {raw: arcCraft(t, strings.Replace(one, "cv=none;", "cv=none; t=1;", 1), setOf(2)), result: "fail", reason: "the ARC-Seal i=1 of example.org: the signature does not fit"},
		"white space in old results": {raw: strings.Replace(three, "i=1; lists.example.org; spf", "i=1;\r\n\tlists.example.org;  spf", 1), result: "pass"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := verifyChain(t, handlerZone(), tt.raw)
			if r.result != tt.result || r.oldest != tt.oldest || !strings.Contains(r.reason, tt.reason) || (tt.reason == "") != (r.reason == "") {
				t.Errorf("%s, oldest %d, %q; want %s, oldest %d, %q", r.result, r.oldest, r.reason, tt.result, tt.oldest, tt.reason)
			}
			if r.temporary != (name == "key does not come") {
				t.Errorf("temporary is %t", r.temporary)
			}
			if r.ended != strings.Contains(tt.reason, "(cv=fail") {
				t.Errorf("ended is %t", r.ended)
			}
		})
	}
}

// TestARCKeySize holds the bound on keys, which keeps long chains from taking long.
func TestARCKeySize(t *testing.T) {
	t.Parallel()
	for bits, want := range map[uint]string{4096: "the signature does not fit", 4097: "the RSA key has 4097 bits, more than 4096"} {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		public, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537})
		if err != nil {
			t.Fatal(err)
		}
		z := zone{"rsa._domainkey.example.org": {"p=" + base64.StdEncoding.EncodeToString(public)}}
		if r := verifyChain(t, z, chainOf(t, small, 1)); r.result != chainFail || !strings.Contains(r.reason, want) {
			t.Errorf("%d bits: %s, %s", bits, r.result, r.reason)
		}
	}
}

// TestARCMutations changes each byte of a chain: none can be another one.
func TestARCMutations(t *testing.T) {
	t.Parallel()
	raw := chainOf(t, small, 2)
	end := strings.Index(raw, "From: ")
	own := strings.Index(raw, crlf) // of the newest seal, whose b= ends with bits that mean nothing
	z := handlerZone()
	for i := range end {
		if strings.IndexByte(white, raw[i]) >= 0 || i >= own-3 && i < own {
			continue
		}
		for _, c := range []byte{'0', '1'} {
			changed := raw[:i] + string(c) + raw[i+1:]
			if r := verifyChain(t, z, changed); c != raw[i] && r.result != chainFail {
				t.Errorf("%q with %q at %d: %s", raw[max(0, i-20):i+20], c, i, r.result)
			}
		}
	}
	// Fields and sets that are left out, or stand twice.
	fields, rest := cutFields(raw)
	for i := range 6 {
		for what, list := range map[string][]string{
			"without": slices.Delete(slices.Clone(fields), i, i+1), "twice": slices.Insert(slices.Clone(fields), i, fields[i]),
		} {
			if r := verifyChain(t, z, strings.Join(list, "")+rest); r.result != chainFail {
				t.Errorf("%s %.30q: %s", what, fields[i], r.result)
			}
		}
	}
	if r := verifyChain(t, z, strings.Join(fields[:3], "")+strings.Join(fields[6:], "")+rest); r.result != chainFail {
		t.Errorf("without the first set: %s", r.result)
	}
}

// TestARCAsksOnce holds how many questions a chain costs.
func TestARCAsksOnce(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		raw  string
		want int
	}{
		"chain":           {chainOf(t, small, 20), 1},
		"changed message": {chainOf(t, small, 20) + "x\r\n", 0},
		"no chain":        {small, 0},
	}
	for name, tt := range tests {
		c := &counting{zone: handlerZone(), asked: make(map[string]int)}
		verifyChain(t, c, tt.raw)
		n := 0
		for _, asked := range c.asked {
			n += asked
		}
		if n != tt.want {
			t.Errorf("%s: %d questions, want %d", name, n, tt.want)
		}
	}
}
