package chain_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

// changes is a handler at the data stage that adds and removes recipients; one to be
// removed has a minus sign in front.
func changes(t *testing.T, v mail.Verdict, list ...string) handler {
	t.Helper()
	return func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
		for _, a := range list {
			if name, remove := strings.CutPrefix(a, "-"); remove {
				tx.RemoveRecipient(address(t, name))
			} else {
				tx.AddRecipient(address(t, a))
			}
		}
		return v, nil
	}
}

// keeps is a target that takes the recipients of a domain: it judges each of them, as
// targets do not, and notes those that it delivers to.
type keeps struct {
	domain    string
	delivered []string
}

func (k *keeps) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	switch tx.Stage {
	case mail.StageRcpt:
		switch r := tx.Recipient; {
		case r.Address.Domain != k.domain:
			return mail.Continue("not one of " + k.domain), nil
		case r.Address.LocalPart == "nobody":
			tx.AddTag("nobody")
			tx.SetScore(k.domain, 5)
			tx.SetQuarantine("nobody")
			return mail.Reject(mail.NewReply(550, 1, 1, "No such mailbox"), "there is no such mailbox"), nil
		case r.Address.LocalPart == "broken":
			return mail.Verdict{}, errors.New("the disk is gone")
		case r.Address.LocalPart == "full":
			return mail.Defer(mail.NewReply(452, 2, 2, "Mailbox full"), "over quota"), nil
		default:
			r.Accounts = []string{r.Address.String()}
			return mail.Accept("taken"), nil
		}
	default:
		for _, r := range tx.Envelope.Recipients {
			if r.Target == k.domain {
				r.Delivered = true
				k.delivered = append(k.delivered, r.Accounts...)
			}
		}
		return mail.Accept("stored"), nil
	}
}

func (k *keeps) step() *chain.Step {
	s := step(k.domain, mail.AtRcpt|mail.AtData, k)
	s.Target = true
	return s
}

// TestAddedRecipients: the targets decide, in their order, and the trace says how.
func TestAddedRecipients(t *testing.T) {
	t.Parallel()
	const (
		elsewhere = "it has added this recipient, which no target takes: the message does not go there"
		refused   = "it has added this recipient, which example.test refuses: the message does not go there"
		nobody    = "milter has put other recipients in the place of all, and no target takes one of them"
	)
	tests := map[string]struct {
		list    []string
		verdict mail.Verdict
		action  mail.Action
		by      string   // who defers, the reply's code and the reason
		here    []string // delivered by the first target
		there   []string // by the second
		trace   []string // of the rcpt stage
		to      []string // whom the record of the trace names
	}{
		"one more": {
			list: []string{"b@example.test"}, action: mail.ActionAccept, here: []string{"a@example.test", "b@example.test"},
			trace: []string{"example.test b@example.test: taken"}, to: []string{"a@example.test", "b@example.test"},
		},
		"of the second target": {
			list: []string{"b@example.net"}, action: mail.ActionAccept, here: []string{"a@example.test"}, there: []string{"b@example.net"},
			trace: []string{"example.test b@example.net: not one of example.test", "example.net b@example.net: taken"}, to: []string{"a@example.test", "b@example.net"},
		},
		"elsewhere": {
			list: []string{"b@example.org"}, action: mail.ActionAccept, here: []string{"a@example.test"},
			trace: []string{"example.test b@example.org: not one of example.test", "example.net b@example.org: not one of example.net", "milter b@example.org: " + elsewhere},
			to:    []string{"a@example.test"},
		},
		"refused by the first": {
			list: []string{"nobody@example.test", "b@example.test"}, action: mail.ActionAccept, here: []string{"a@example.test", "b@example.test"},
			trace: []string{"example.test nobody@example.test: there is no such mailbox", "milter nobody@example.test: " + refused, "example.test b@example.test: taken"},
			to:    []string{"a@example.test", "b@example.test"},
		},
		"an error": {
			list: []string{"broken@example.test", "b@example.test"}, action: mail.ActionDefer, by: "example.test 451 broken@example.test, which milter has added: the disk is gone",
			trace: []string{"example.test broken@example.test: the disk is gone"}, to: []string{"a@example.test"},
		},
		"an error in the place of another": {
			list: []string{"-a@example.test", "b@example.test", "broken@example.test"}, action: mail.ActionDefer, by: "example.test 451 broken@example.test, which milter has added: the disk is gone",
			trace: []string{"example.test b@example.test: taken", "example.test broken@example.test: the disk is gone"}, to: []string{"b@example.test"},
		},
		"deferred by the second": {
			list: []string{"full@example.net"}, action: mail.ActionDefer, by: "example.net 452 full@example.net, which milter has added: over quota",
			trace: []string{"example.test full@example.net: not one of example.test", "example.net full@example.net: over quota"}, to: []string{"a@example.test"},
		},
		"another in its place": {
			list: []string{"-a@example.test", "b@example.test"}, action: mail.ActionAccept, here: []string{"b@example.test"},
			trace: []string{"example.test b@example.test: taken"}, to: []string{"b@example.test"},
		},
		"one elsewhere in its place": {
			list: []string{"-a@example.test", "b@example.org"}, action: mail.ActionDefer, by: "milter 451 " + nobody,
			trace: []string{"example.test b@example.org: not one of example.test", "example.net b@example.org: not one of example.net", "milter b@example.org: " + elsewhere},
		},
		"a message that is refused": {
			list: []string{"b@example.test"}, verdict: mail.Reject(mail.NewReply(550, 7, 1, "No"), "no"), action: mail.ActionReject, to: []string{"a@example.test"},
		},
		"a message that is discarded": {
			list: []string{"-a@example.test"}, verdict: mail.Discard("all are deleted"), action: mail.ActionDiscard,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, there := &keeps{domain: "example.test"}, &keeps{domain: "example.net"}
			later := 0
			c := chain.New([]*chain.Step{
				// What is no target is not asked about recipients that a handler adds.
				step("greylist", mail.AtRcpt, handler(func(context.Context, *mail.Transaction) (mail.Verdict, error) { later++; return mail.Verdict{}, nil })),
				step("milter", mail.AtData, changes(t, test.verdict, test.list...)),
				step("behind", mail.AtData, handler(func(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
					if tx.Stage != mail.StageData || tx.Recipient != nil {
						t.Errorf("the next handler is at %s with the recipient %v", tx.Stage, tx.Recipient)
					}
					return mail.Verdict{}, nil
				})),
				here.step(), there.step(),
			}, chain.Options{})
			tx := newTransaction()
			tx.Envelope.Recipients = []*mail.Recipient{{Address: address(t, "a@example.test"), Target: "example.test", Accounts: []string{"a@example.test"}}}
			o := c.Run(t.Context(), mail.StageData, tx)
			if o.Action != test.action || later > 0 {
				t.Errorf("%v: %s; %d others were asked", o.Action, o.Reason, later)
			}
			if got := fmt.Sprint(o.Handler, " ", o.Reply.Code, " ", o.Reason); o.Action == mail.ActionDefer && (got != test.by || o.Stage != mail.StageData) {
				t.Errorf("deferred at %s by %q, want %q", o.Stage, got, test.by)
			}
			if tx.Stage != mail.StageData || tx.Recipient != nil {
				t.Errorf("left at %s with the recipient %v", tx.Stage, tx.Recipient)
			}
			if !slices.Equal(here.delivered, test.here) || !slices.Equal(there.delivered, test.there) {
				t.Errorf("delivered to %q and %q", here.delivered, there.delivered)
			}
			if tx.Score() != 0 || len(tx.Tags()) > 0 || tx.Quarantined() != "" {
				t.Errorf("what was said of a refused recipient stays: %g, %v, %q", tx.Score(), tx.Tags(), tx.Quarantined())
			}
			var trace, to []string
			for _, e := range tx.Entries {
				if e.Stage == mail.StageRcpt {
					trace = append(trace, e.Handler+" "+e.Recipient+": "+e.Reason)
				}
			}
			for _, r := range tx.Envelope.Recipients {
				to = append(to, r.Address.String())
			}
			if diff := cmp.Diff(test.trace, trace); diff != "" {
				t.Errorf("trace (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.to, to); diff != "" {
				t.Errorf("recipients (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAddedRecipientsOfAnotherChain: the message is judged already, so the targets of
// its own chain decide about a recipient whose domain has another.
func TestAddedRecipientsOfAnotherChain(t *testing.T) {
	t.Parallel()
	own := chain.New([]*chain.Step{step("milter", mail.AtData, changes(t, mail.Verdict{}, "b@example.net")), deliver()}, chain.Options{})
	other := chain.New([]*chain.Step{step("theirs", mail.AtRcpt|mail.AtData, says(mail.Reject(mail.NewReply(550, 7, 1, "No"), "no")))}, chain.Options{})
	set := chain.NewSet(own, map[string]*chain.Chain{"example.net": other})
	tx := newTransaction()
	tx.Envelope.Recipients = []*mail.Recipient{{Address: address(t, "a@example.test"), Target: "deliver"}}
	if o := set.Run(t.Context(), mail.StageData, tx); o.Action != mail.ActionAccept {
		t.Fatalf("%v: %s", o.Action, o.Reason)
	}
	if n := len(tx.Envelope.Recipients); n != 2 || !tx.Envelope.Recipients[1].Delivered {
		t.Errorf("%d recipients", n)
	}
	if diff := cmp.Diff([]string{"milter", "deliver", "deliver"}, handlers(tx)); diff != "" {
		t.Errorf("handlers asked (-want +got):\n%s", diff)
	}
}

// TestMonitoredChangesNothing: a handler in mode monitor cannot rewrite, nor change
// the envelope.
func TestMonitoredChangesNothing(t *testing.T) {
	t.Parallel()
	kept := &keeps{domain: "example.test"}
	rewrites := handler(func(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
		m, err := mail.NewMessage([]byte("From: other\r\n\r\nnew\r\n"))
		if err != nil {
			return mail.Verdict{}, err
		}
		tx.Rewrite(m, nil)
		tx.Envelope.ReversePath = mail.Address{}
		return changes(t, mail.Discard("gone"), "-a@example.test", "b@example.test")(ctx, tx)
	})
	monitored := step("milter", mail.AtData, rewrites)
	monitored.Monitor = true
	tx := newTransaction()
	m, err := mail.NewMessage([]byte("From: a\r\n\r\nold\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	tx.Message = m
	tx.Envelope = mail.Envelope{ReversePath: address(t, "from@example.org"), Recipients: []*mail.Recipient{{Address: address(t, "a@example.test"), Target: "example.test", Accounts: []string{"a"}}}}
	o := chain.New([]*chain.Step{monitored, kept.step()}, chain.Options{}).Run(t.Context(), mail.StageData, tx)
	if o.Action != mail.ActionAccept || tx.Discarded() || tx.Message != m || tx.Envelope.ReversePath.IsNull() || !slices.Equal(kept.delivered, []string{"a"}) {
		t.Errorf("%v, from %s, delivered to %q", o.Action, tx.Envelope.ReversePath, kept.delivered)
	}
	if e := tx.Entries[0]; e.Note != chain.NoteMonitor || e.Action != mail.ActionDiscard {
		t.Errorf("the trace says %+v", e)
	}
}
