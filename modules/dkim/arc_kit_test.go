package dkim

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

// Parts of a set by the key rsa of example.org; %d is the instance.
const (
	arcFound = "i=%d; lists.example.org; spf=pass smtp.mailfrom=alice@example.org; dkim=pass; dmarc=pass header.from=example.org"
	arcTags  = "i=%d; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=rsa; h=from:to:subject"
	arcSeals = "i=%d; a=rsa-sha256; cv=%s; d=example.org; s=rsa"
)

// set is what a sealer adds: the field of results, and the tags of the other two
// without bh= and b=.
type set struct {
	results, message, seal string
	// key signs, rsa if it is "".
	key string
}

// setOf is a set of an instance that is right.
func setOf(instance int) set {
	status := chainPass
	if instance == 1 {
		status = chainNone
	}
	return set{results: fmt.Sprintf(arcFound, instance), message: fmt.Sprintf(arcTags, instance), seal: fmt.Sprintf(arcSeals, instance, status)}
}

// arcCraft puts sets on top of a message and signs whatever they say.
func arcCraft(tb testing.TB, raw string, sets ...set) string {
	tb.Helper()
	for _, s := range sets {
		raw = s.put(tb, raw)
	}
	return raw
}

func (s set) put(tb testing.TB, raw string) string {
	tb.Helper()
	m := parse(tb, raw)
	key := testKeys()["rsa"]
	if s.key != "" {
		key = testKeys()[s.key]
	}
	dummy := base64.StdEncoding.EncodeToString(make([]byte, sha256Size))
	read := arcSet{message: &finding{signature: new(signature)}}
	_ = read.parseMessage([]byte(arcFields[arcMessage] + ": " + s.message + "; bh=" + dummy + "; b=" + dummy)) // what can be read is enough
	form := bodyForm{read.message.body, read.message.limit}
	sums, err := hashBody(m.OpenBody(), []bodyForm{form})
	if err != nil {
		tb.Fatal(err)
	}
	results := arcFields[arcResults] + ": " + s.results + crlf
	message := arcFields[arcMessage] + ": " + s.message + "; bh=" + base64.StdEncoding.EncodeToString(sums[form].hash) + "; b="
	message += sign(tb, key, headerHash(m.Header, newFieldIndex(m.Header), read.message.names, read.message.header, noField, []byte(message))) + crlf
	hash := newSealHash()
	chain := locateChain(m.Header)
	for i := range chain.sets {
		for _, position := range chain.sets[i].positions {
			if position != noField {
				hash.add(m.Header.Fields[position].Raw)
			}
		}
	}
	hash.add([]byte(results))
	hash.add([]byte(message))
	seal := arcFields[arcSeal] + ": " + s.seal + "; b="
	return seal + sign(tb, key, hash.sum([]byte(seal))) + crlf + message + results + raw
}

func sign(tb testing.TB, key *testKey, hash []byte) string {
	tb.Helper()
	value, err := key.sign(hash)
	if err != nil {
		tb.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(value)
}

// chainOf is a message with a number of sets that are right.
func chainOf(tb testing.TB, raw string, n int) string {
	tb.Helper()
	for i := range n {
		raw = setOf(i+1).put(tb, raw)
	}
	return raw
}

func verifyChain(tb testing.TB, z resolver, raw string) *arcReport {
	tb.Helper()
	v := &arcVerifier{resolver: z, now: atNoon}
	r, err := v.verify(tb.Context(), parse(tb, raw))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// arcSealer is a handler that seals for example.org by a key of the tests.
func arcSealer(name string) *ARCSeal {
	return &ARCSeal{
		id: "mx.example.org", now: atNoon, verifier: &arcVerifier{resolver: handlerZone(), now: atNoon},
		key: &domainKey{domain: "example.org", ascii: "example.org", selector: name, private: testKeys()[name].privateKey},
	}
}

// sealedBy has a message of a transaction sealed, and gives it and the reason.
func sealedBy(tb testing.TB, h *ARCSeal, tx *mail.Transaction) (raw, reason string) {
	tb.Helper()
	v, err := h.Handle(tb.Context(), tx)
	if err != nil || v.Action != mail.ActionContinue {
		tb.Fatalf("%+v, %v", v, err)
	}
	return rendered(tb, tx), v.Reason
}

// without leaves out the nth field of a name, counted from the top.
func without(tb testing.TB, raw, name string, n int) string {
	tb.Helper()
	fields, rest := cutFields(raw)
	for i, field := range fields {
		if strings.HasPrefix(field, name+":") {
			if n--; n < 0 {
				return strings.Join(append(fields[:i:i], fields[i+1:]...), "") + rest
			}
		}
	}
	tb.Fatalf("there is no such %s in\n%s", name, raw)
	return ""
}

// cutFields gives the fields, and the rest from the empty line on.
func cutFields(raw string) (fields []string, rest string) {
	head, rest, _ := strings.Cut(raw, "\r\n\r\n")
	for line := range strings.Lines(head + crlf) {
		if line[0] == ' ' || line[0] == '\t' {
			fields[len(fields)-1] += line
			continue
		}
		fields = append(fields, line)
	}
	return fields, crlf + rest
}
