package dkim

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

// sealerOf is a set of an instance by the key "rsa" of a domain, with a result of DMARC
// and what follows it.
func sealerOf(instance int, domain, dmarc string) set {
	s := setOf(instance)
	s.message, s.seal = strings.Replace(s.message, "d=example.org", "d="+domain, 1), strings.Replace(s.seal, "d=example.org", "d="+domain, 1)
	s.results = fmt.Sprintf("i=%d; mx.%s; spf=fail; dkim=pass header.d=a; dkim=pass header.d=b", instance, domain)
	if dmarc != "" {
		s.results += "; dmarc=" + dmarc
	}
	return s
}

func TestARCVerifyHandler(t *testing.T) {
	t.Parallel()
	z := handlerZone()
	for _, domain := range []string{"list.test", "relay.test", "evil.test"} {
		z["rsa._domainkey."+domain] = []string{testKeys()["rsa"].record}
	}
	z["rsa._domainkey.testing.test"] = []string{testKeys()["rsa"].record + "; t=y"}
	trusted := []string{"list.test", "relay.test", "testing.test"}
	const pass = "pass (p=REJECT; (x)) header.from=Example.ORG"
	tests := map[string]struct {
		raw, want, reason string
	}{
		"no chain":             {small, "none", "none"},
		"fail":                 {arcCraft(t, small, sealerOf(1, "list.test", pass)) + "x\r\n", "fail", "fail, the ARC-Message-Signature i=1 of list.test: the body was changed: its hash is not bh= (selector rsa, rsa-sha256)"},
		"nobody trusted":       {arcCraft(t, small, sealerOf(1, "evil.test", pass)), "pass oldest-pass=0", "pass, one set, by evil.test"},
		"below a trusted one":  {arcCraft(t, small, sealerOf(1, "example.org", pass)), "pass oldest-pass=0", "pass, one set, by example.org"},
		"trusted":              {arcCraft(t, small, sealerOf(1, "list.test", pass)), "pass oldest-pass=0 trusted=list.test dmarc=pass from=example.org", "pass, one set, by list.test; list.test is trusted and found in i=1: spf=fail, dkim=pass, dmarc=pass"},
		"trusted, found fail":  {arcCraft(t, small, sealerOf(1, "list.test", "fail header.from=a@example.org")), "pass oldest-pass=0 trusted=list.test dmarc=fail from=example.org", "pass, one set, by list.test; list.test is trusted and found in i=1: spf=fail, dkim=pass, dmarc=fail"},
		"trusted, no author":   {arcCraft(t, small, sealerOf(1, "list.test", "pass")), "pass oldest-pass=0 trusted=list.test dmarc=pass", "pass, one set, by list.test; list.test is trusted and found in i=1: spf=fail, dkim=pass, dmarc=pass"},
		"trusted, no DMARC":    {arcCraft(t, small, sealerOf(1, "list.test", "")), "pass oldest-pass=0", "pass, one set, by list.test"},
		"trusted, DMARC twice": {arcCraft(t, small, sealerOf(1, "list.test", pass+"; dmarc=fail")), "pass oldest-pass=0", "pass, one set, by list.test"},
		"trusted, unreadable":  {arcCraft(t, small, sealerOf(1, "list.test", pass+"; (")), "pass oldest-pass=0", "pass, one set, by list.test"},
		"key for tests":        {arcCraft(t, small, sealerOf(1, "testing.test", pass)), "pass oldest-pass=0", "pass, one set, by testing.test"},
		"all trusted":          {arcCraft(t, small, sealerOf(1, "list.test", pass), sealerOf(2, "relay.test", "fail header.from=example.org")), "pass oldest-pass=0 trusted=list.test dmarc=pass from=example.org", "pass, 2 sets, the last by relay.test; list.test is trusted and found in i=1: spf=fail, dkim=pass, dmarc=pass"},
		"newest untrusted":     {arcCraft(t, small, sealerOf(1, "list.test", pass), sealerOf(2, "evil.test", pass)), "pass oldest-pass=0", "pass, 2 sets, the last by evil.test"},
		"one between is not":   {arcCraft(t, small, sealerOf(1, "list.test", pass), sealerOf(2, "evil.test", pass), sealerOf(3, "relay.test", "fail header.from=example.org")), "pass oldest-pass=0 trusted=relay.test dmarc=fail from=example.org", "pass, 3 sets, the last by relay.test; relay.test is trusted and found in i=3: spf=fail, dkim=pass, dmarc=fail"},
		"first has no DMARC":   {arcCraft(t, small, sealerOf(1, "list.test", ""), sealerOf(2, "relay.test", pass)), "pass oldest-pass=0 trusted=relay.test dmarc=pass from=example.org", "pass, 2 sets, the last by relay.test; relay.test is trusted and found in i=2: spf=fail, dkim=pass, dmarc=pass"},
		"changed by the list":  {arcCraft(t, arcCraft(t, small, sealerOf(1, "list.test", pass))+"x\r\n", sealerOf(2, "relay.test", "")), "pass oldest-pass=2 trusted=list.test dmarc=pass from=example.org", "pass, 2 sets, the last by relay.test; list.test is trusted and found in i=1: spf=fail, dkim=pass, dmarc=pass"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &ARCVerify{TempError: "accept", trusted: trusted, verifier: &arcVerifier{resolver: z, now: atNoon}}
			tx := transaction(t, tt.raw)
			v, err := h.Handle(t.Context(), tx)
			if err != nil || v.Action != mail.ActionContinue || v.Reason != tt.reason {
				t.Errorf("%s, %q, %v; want %q", v.Action, v.Reason, err, tt.reason)
			}
			r, _ := tx.AuthResult("arc")
			got, ip := r.Result, ""
			for _, p := range r.Properties {
				if p.Name == "remote-ip" {
					ip = p.Value
					continue
				}
				got += " " + p.Name + "=" + p.Value
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || ip != tx.Session.RemoteAddr.Addr().String() {
				t.Errorf("of %s, result (-want +got):\n%s", ip, diff)
			}
		})
	}
}

func TestARCVerifyWhom(t *testing.T) {
	t.Parallel()
	s := setOf(1)
	s.seal = strings.Replace(s.seal, "s=rsa", "s=silent", 1)
	raw := arcCraft(t, small, s)
	for action, want := range map[string]string{"accept": "continue", "defer": "defer 451 4.4.3 ARC chain of the message cannot be validated now, try again later"} {
		h := &ARCVerify{TempError: action, verifier: &arcVerifier{resolver: handlerZone(), now: atNoon}}
		v, err := h.Handle(t.Context(), transaction(t, raw))
		if got := strings.TrimSpace(v.Action.String() + " " + v.Reply.String()); err != nil || !strings.HasPrefix(got, want) || !strings.HasPrefix(v.Reason, "fail, the ARC-Seal i=1 of example.org: the key cannot be looked up") {
			t.Errorf("%s: %q, %q, %v", action, got, v.Reason, err)
		}
	}
	tx := transaction(t, raw)
	tx.Session.User = "user@example.test"
	v, err := new(ARCVerify).Handle(t.Context(), tx)
	if _, noted := tx.AuthResult("arc"); err != nil || v.Reason != "not verified: user@example.test has logged in" || noted {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestARCPlaces(t *testing.T) {
	t.Parallel()
	trusting := &ARCVerify{Trusted: []string{"example.org"}}
	for names, want := range map[string]int{"arc_verify": 1, "arc_verify dmarc": 0, "dmarc arc_verify": 1} {
		modules := strings.Fields(names)
		place := strings.Count(names[:strings.Index(names, "arc_verify")], " ")
		if got := trusting.ValidatePlace(modules, place); len(got) != want {
			t.Errorf("%s: %+v", names, got)
		}
		if got := new(ARCVerify).ValidatePlace(modules, place); len(got) != 0 {
			t.Errorf("%s, trusting nobody: %+v", names, got)
		}
	}
	for names, want := range map[string]int{"arc_verify dmarc headers arc_seal deliver": 0, "arc_seal dmarc arc_verify": 2} {
		place := strings.Count(names[:strings.Index(names, "arc_seal")], " ")
		if got := new(ARCSeal).ValidatePlace(strings.Fields(names), place); len(got) != want {
			t.Errorf("%s: %+v", names, got)
		}
	}
}

// TestARCSealHandler seals a message again and again, and has it verified.
func TestARCSealHandler(t *testing.T) {
	t.Parallel()
	raw := "DKIM-Signature: v=1; a=x\r\n" + text
	for i, key := range []string{"rsa", "ed25519", "rsa"} {
		tx := transaction(t, raw)
		tx.AddFieldBelow("Received", "by mx.example.org")
		tx.SetAuthResult(mail.AuthResult{Method: "spf", Result: "pass", Properties: []mail.Property{{Type: "smtp", Name: "mailfrom", Value: "alice@example.org"}}})
		tx.SetAuthResult(mail.AuthResult{Method: "dmarc", Result: "pass", Properties: []mail.Property{{Type: "header", Name: "from", Value: "example.org"}}})
		sealed, reason := sealedBy(t, arcSealer(key), tx)
		status := chainPass
		if i == 0 {
			status = chainNone
		}
		if want := fmt.Sprintf("as i=%d with cv=%s", i+1, status); !strings.HasPrefix(reason, "sealed for example.org by "+key) || !strings.HasSuffix(reason, want) {
			t.Errorf("reason %q, want %q", reason, want)
		}
		for line := range strings.Lines(sealed[:strings.Index(sealed, "Received:")]) {
			if len(line) > 78+len(crlf) {
				t.Errorf("long line %q", line)
			}
		}
		r := verifyChain(t, handlerZone(), sealed)
		if r.result != chainPass || r.last != i+1 || r.oldest != 0 {
			t.Fatalf("%s with %d sets, %s:\n%s", r.result, r.last, r.reason, sealed)
		}
		names := strings.Join(r.sets[i].message.names, ":")
		if !strings.HasPrefix(names, "from:from:to:to:cc:") || !strings.Contains(names, "dkim-signature") || strings.Contains(names, "arc-") || strings.Contains(names, "received") {
			t.Errorf("it signs %s", names)
		}
		v := r.vouched(parse(t, sealed).Header, []string{"example.org"})
		if v == nil || v.instance != 1 || v.dmarc != "pass" || v.author != "example.org" || v.found != "spf=pass, dmarc=pass" {
			t.Errorf("it vouches %+v", v)
		}
		_, results, err := mail.ParseAuthResults(strings.SplitN(parse(t, sealed).Header.Get("ARC-Authentication-Results"), ";", 2)[1])
		if err != nil || len(results) != 3 || results[2].Method != "arc" || results[2].Result != status {
			t.Errorf("results %+v, %v", results, err)
		}
		raw = sealed
	}
	if r := verifyChain(t, handlerZone(), strings.Replace(raw, "From:", "Cc: x@example.org\r\nFrom:", 1)); r.result != chainFail {
		t.Errorf("with another Cc: %s", r.result)
	}
}

func TestARCSealWhat(t *testing.T) {
	t.Parallel()
	broken := chainOf(t, small, 2) + "x\r\n"
	silenced := setOf(1)
	silenced.seal = strings.Replace(silenced.seal, "s=rsa", "s=silent", 1)
	tests := map[string]struct {
		raw, reason string
		change      func(*mail.Transaction)
		ended       bool
	}{
		"no chain":          {raw: small, reason: "sealed for example.org by rsa (rsa-sha256, 2048-bit key) as i=1 with cv=none"},
		"49 sets":           {raw: chainOf(t, small, 49), reason: "sealed for example.org by rsa (rsa-sha256, 2048-bit key) as i=50 with cv=pass"},
		"50 sets":           {raw: chainOf(t, small, 50), reason: "not sealed: the chain has 50 sets, and cannot have more"},
		"broken":            {raw: broken, reason: "sealed for example.org by rsa (rsa-sha256, 2048-bit key) as i=3 with cv=fail", ended: true},
		"a field missing":   {raw: without(t, chainOf(t, small, 2), "ARC-Seal", 1), reason: "sealed for example.org by rsa (rsa-sha256, 2048-bit key) as i=3 with cv=fail", ended: true},
		"no instance":       {raw: "ARC-Seal: x\r\n" + small, reason: "not sealed: the chain cannot be read: ARC-Seal cannot be read: "},
		"silent DNS":        {raw: arcCraft(t, small, silenced), reason: "not sealed: the chain cannot be validated now: the ARC-Seal i=1"},
		"logged in":         {raw: small, reason: "not sealed: user@example.test has logged in", change: func(tx *mail.Transaction) { tx.Session.User = "user@example.test" }},
		"chain was removed": {raw: chainOf(t, small, 1), reason: "not sealed: a handler has changed the chain", change: func(tx *mail.Transaction) { tx.RemoveHeaderFields("ARC-Seal") }},
		"no room":           {raw: strings.Repeat("List-Id: x\r\n", maxSigned) + small, reason: "not sealed: the message has "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := transaction(t, tt.raw)
			if tt.change != nil {
				tt.change(tx)
			}
			raw, reason := sealedBy(t, arcSealer("rsa"), tx)
			if !strings.HasPrefix(reason, tt.reason) {
				t.Errorf("reason %q, want %q", reason, tt.reason)
			}
			added := strings.Count(raw, "ARC-") - strings.Count(tt.raw, "ARC-")
			if strings.HasPrefix(tt.reason, "not") != (added <= 0) {
				t.Errorf("%d fields added", added)
			}
			if r := verifyChain(t, handlerZone(), raw); r.ended != tt.ended || added > 0 && !tt.ended && r.result != chainPass {
				t.Errorf("then it is %s, %s", r.result, r.reason)
			}
			if !tt.ended {
				return
			}
			// A chain that has ended is not sealed again (section 5.1).
			again, reason := sealedBy(t, arcSealer("rsa"), transaction(t, raw))
			if again != raw || reason != "not sealed: example.org has found that the chain is broken (cv=fail, i=3)" {
				t.Errorf("again: %q", reason)
			}
		})
	}
}

// TestARCSharesTheFinding has a chain validated once for both handlers.
func TestARCSharesTheFinding(t *testing.T) {
	t.Parallel()
	c := &counting{zone: handlerZone(), asked: make(map[string]int)}
	verifier := &arcVerifier{resolver: c, now: atNoon}
	sealer := arcSealer("rsa")
	sealer.verifier = verifier
	tx := transaction(t, chainOf(t, small, 2))
	if _, err := (&ARCVerify{verifier: verifier}).Handle(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	if _, reason := sealedBy(t, sealer, tx); !strings.HasSuffix(reason, "cv=pass") || c.asked["rsa._domainkey.example.org"] != 1 {
		t.Errorf("%q after the questions %v", reason, c.asked)
	}
}
