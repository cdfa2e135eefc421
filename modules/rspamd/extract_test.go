package rspamd

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

func TestExtract(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want, fault string }{
		"seen by names": {`{"is_skipped":false,"score":1,"urls":["}",{"a":["\\",",\""]}],"action":"reject"}`, `{"score":1,"action":"reject"}`, ""},
		"white space":   {" {\n\t\"score\" : 1.5 ,\r\n\"x\" : [ 1 , 2 ] , \"action\" : \"a b\" } \n", `{"score": 1.5,"action": "a b"}`, ""},
		"nothing":       {`{}`, `{}`, ""},
		"nothing used":  {`{"urls":[],"emails":{}}`, `{}`, ""},
		"nested names":  {`{"x":{"action":"reject"},"milter":{"x":[{}]}}`, `{"milter":{"x":[{}]}}`, ""},
		"scalars":       {`{"a":null,"b":true,"c":-1e9,"d":"","score":0}`, `{"score":0}`, ""},
		"list":          {`[]`, "", "no JSON of the right form"},
		"two":           {`{}{}`, "", "behind its end"},
		"cut name":      {`{"act`, "", "it ends too early"},
		"cut skipped":   {`{"urls":["a`, "", "it ends too early"},
		"no colon":      {`{"action" 1}`, "", "where ':' should be"},
		"no comma":      {`{"action":1 "b":2}`, "", "behind a value"},
		"comma at last": {`{"action":1,}`, "", "where a name should be"},
		"wrong bracket": {`{"urls":]}`, "", "it ends in a value"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := extract(strings.NewReader(test.text))
			if test.fault != "" {
				if _, isForm := errors.AsType[formError](err); !isForm || !strings.Contains(err.Error(), test.fault) {
					t.Errorf("error %v, want %q", err, test.fault)
				}
				return
			}
			if err != nil || string(got) != test.want {
				t.Errorf("got %s, %v; want %s", got, err, test.want)
			}
		})
	}
}

// TestExtractBounds: what is not used is not kept, and there is an end to all.
func TestExtractBounds(t *testing.T) {
	t.Parallel()
	list := func(name string, size int) io.Reader {
		return io.MultiReader(strings.NewReader(`{"action":"reject","score":20,"`+name+`":["`), io.LimitReader(letters{}, int64(size)), strings.NewReader(`"]}`))
	}
	for name, test := range map[string]struct {
		size int
		want error
	}{"urls": {maxRead - 100, nil}, "emails": {maxRead, errTooMuch}, "symbols": {maxAnswer - 100, nil}, "milter": {maxAnswer, errTooMuch}} {
		began := time.Now()
		got, err := extract(list(name, test.size))
		if !errors.Is(err, test.want) || err == nil && name == "urls" && string(got) != `{"action":"reject","score":20}` {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		t.Logf("%s: %d bytes in %s", name, test.size, time.Since(began))
	}
}

// letters is an endless text.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// TestManyURLs: rspamd names the URLs and addresses of a message. However many they
// are, its verdict holds, and the handler does not rest.
func TestManyURLs(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 60)
	for form, n := range map[string]int{"http://%[2]s%[1]d.%[2]s.%[2]s.%[2]s.com/\r\n": 4200, "a%[1]d@%[2]s.%[2]s.com\r\n": 9990} {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, form, i, long)
		}
		tx := newTransaction(t, letter("X-Test-Action: reject\r\n")+b.String())
		if o := step(newHandler(t, rspamd.TCP, nil), chain.PolicyContinue, time.Minute).Run(t.Context(), mail.StageData, tx); o.Action != mail.ActionReject {
			t.Errorf("%d of %s: %+v", n, form, tx.Entries[0])
		}
	}
}

// TestTooComplex: an answer that is longer than is read is the message's fault.
func TestTooComplex(t *testing.T) {
	t.Parallel()
	at := fake(t, respond(said(`{"action":"reject","score":20,"messages":{"a":"`+strings.Repeat("x", maxAnswer)+`"}}`)))
	const text = "Message is too complex to be checked for spam"
	for tooLarge, want := range map[string]mail.Verdict{
		"accept":     {Action: mail.ActionReject, Reply: mail.NewReply(550, 6, 0, text)},
		"tag":        {Action: mail.ActionReject, Reply: mail.NewReply(550, 6, 0, text)},
		"reject":     {Action: mail.ActionReject, Reply: mail.NewReply(550, 6, 0, text)},
		"quarantine": {Action: mail.ActionQuarantine},
		"defer":      {Action: mail.ActionDefer, Reply: mail.NewReply(451, 6, 0, text)},
	} {
		c := step(newHandler(t, at, func(r *Rspamd) { r.TooLarge = tooLarge }), chain.PolicyContinue, time.Minute)
		for range restsAfter + 1 {
			tx := newTransaction(t, letter(""))
			c.Run(t.Context(), mail.StageData, tx)
			if e := tx.Entries[0]; e.Action != want.Action || e.Reply != want.Reply || e.Note != "" || !strings.Contains(e.Reason, "its answer is longer than is read") {
				t.Errorf("%s: %+v", tooLarge, e)
			}
		}
	}
}

// TestMonitored: a message that is only monitored gets marks, and is what it was.
func TestMonitored(t *testing.T) {
	t.Parallel()
	const changes = `{"add_headers":{"X-More":"1"},"remove_headers":{"X-Own":0,"DKIM-Signature":1}}`
	at := fake(t, respond(said(`{"action":"rewrite subject","score":7,"subject":"*** SPAM *** my words","milter":`+changes+`}`)))
	const head = "Subject: my words\r\nX-Own: mine\r\nDKIM-Signature: v=1\r\n"
	for _, monitor := range []bool{true, false} {
		tx := newTransaction(t, head+"X-Spam-Flag: NO\r\n\r\nx\r\n")
		chain.New([]*chain.Step{{Name: "rspamd", Handler: newHandler(t, at, nil), Stages: mail.AtData, Monitor: monitor}}, chain.Options{}).Run(t.Context(), mail.StageData, tx)
		rendered, err := tx.Rendered()
		if err != nil {
			t.Fatal(err)
		}
		got := string(rendered.Head())
		if kept := strings.Contains(got, head) && !strings.Contains(got, "X-More"); kept != monitor || !strings.Contains(got, "X-Spam-Flag: YES\r\n") || strings.Contains(got, "X-Spam-Flag: NO") {
			t.Errorf("monitored %t:\n%s", monitor, got)
		}
		if tx.Monitored {
			t.Error("the next handler is monitored, too")
		}
	}
}

// TestPlacesInLargeHeader: a field goes by its place also where the server's own fields
// make the header section larger than what is taken in.
func TestPlacesInLargeHeader(t *testing.T) {
	t.Parallel()
	const forged = "Authentication-Results: forged\r\n"
	raw := forged + "From: a@example.org\r\n" + strings.Repeat("X: "+strings.Repeat("y", 900)+"\r\n", 289)
	raw += "Y: " + strings.Repeat("y", mail.MaxHeaderSize-len(raw)-len("Y: \r\n\r\n")) + "\r\n\r\nHi\r\n"
	tx := newTransaction(t, raw)
	tx.AddFieldBelow("Received", "from a")
	rendered, err := tx.Rendered()
	if err != nil {
		t.Fatal(err)
	}
	changes{remove: []removal{{"Authentication-Results", 1}}}.apply(tx, rendered.Head())
	if rendered, err = tx.Rendered(); err != nil || strings.Contains(string(rendered.Head()), forged) {
		t.Errorf("the forged field is left, %v", err)
	}
}
