package score

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func block(settings string) string { return "score {\n" + settings + "\n}" }

func TestConformance(t *testing.T) {
	coretest.TestHandler(t, coretest.HandlerSuite{
		ID: "handler.score", Config: block(""),
		Bad: []coretest.Bad{
			{Config: block("tag = -1"), Attribute: "tag"},
			{Config: block("quarantine = 3"), Attribute: "quarantine"},
			{Config: block("reject = 5"), Attribute: "reject"},
			{Config: block("quarantine = 0\nreject = 2"), Attribute: "reject"},
			{Config: block("reject = 10001"), Attribute: "reject"},
			{Config: block(`reject = "high"`), Attribute: "reject"},
			{Config: block(`stage = "rcpt"`), Attribute: "stage"},
		},
		Transaction: func(tb testing.TB, stage mail.Stage, n int) *mail.Transaction {
			tb.Helper()
			tx := coretest.Transaction(tb, stage, n)
			if stage == mail.StageData {
				tx.SetScore("dnsbl", float64(n%14))
			}
			return tx
		},
	})
}

func TestHandle(t *testing.T) {
	t.Parallel()
	const off = "tag = 0\nquarantine = 0\nreject = 0"
	tests := map[string]struct {
		settings string
		scores   []float64
		want     string
	}{
		"nothing":          {"", nil, "continue: no handler gave points"},
		"low":              {"", []float64{2.5}, "continue: 2.5 points: h0 2.5"},
		"negative":         {"", []float64{6, -4.25}, "continue: 1.75 points: h0 6, h1 -4.25"},
		"zero":             {"", []float64{0}, "continue: 0 points: h0 0"},
		"tag":              {"", []float64{1, 2}, "continue score=high: 3 points: h0 1, h1 2; tagged from 3 on"},
		"quarantine":       {"", []float64{4.9, 0.1}, "quarantine: 5 points: h0 4.9, h1 0.1; quarantined from 5 on"},
		"sum of decimals":  {"tag = 0.1\nquarantine = 0.3", []float64{0.1, 0.1, 0.1}, "quarantine: 0.3 points: h0 0.1, h1 0.1, h2 0.1; quarantined from 0.3 on"},
		"a little less":    {"", []float64{4.99}, "continue score=high: 4.99 points: h0 4.99; tagged from 3 on"},
		"reject":           {"", []float64{10}, "reject: 10 points: h0 10; rejected from 10 on"},
		"reject off":       {"reject = 0", []float64{100}, "quarantine: 100 points: h0 100; quarantined from 5 on"},
		"quarantine off":   {"quarantine = 0", []float64{9}, "continue score=high: 9 points: h0 9; tagged from 3 on"},
		"all off":          {off, []float64{100}, "continue: 100 points: h0 100"},
		"other thresholds": {"tag = 1\nquarantine = 2\nreject = 3.5", []float64{3.5}, "reject: 3.5 points: h0 3.5; rejected from 3.5 on"},
	}
	sandbox := coretest.New(t, coretest.Options{})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := coretest.Load[*Score](t, sandbox, "handler.score", block(tt.settings))
			tx := mail.NewTransaction("t1", &mail.Session{}, time.Unix(0, 0))
			for i, points := range tt.scores {
				tx.SetScore(fmt.Sprintf("h%d", i), points)
			}
			v, err := h.Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(append([]string{v.Action.String()}, tx.Tags()...), " ") + ": " + v.Reason
			if got != tt.want {
				t.Errorf("%s; want %s", got, tt.want)
			}
			if want := mail.NewReply(550, 7, 1, "The message looks like spam"); v.Action == mail.ActionReject && v.Reply != want {
				t.Errorf("the reply is %s", v.Reply)
			}
		})
	}
}

func TestReasonIsBounded(t *testing.T) {
	t.Parallel()
	tx := mail.NewTransaction("t1", &mail.Session{}, time.Unix(0, 0))
	for i := range 100 {
		tx.SetScore(fmt.Sprintf("handler-%d", i), 1)
	}
	v, err := (&Score{Reject: 5}).Handle(t.Context(), tx)
	if err != nil || len(v.Reason) > 512 || !strings.HasSuffix(v.Reason, "; rejected from 5 on") {
		t.Errorf("%q, %v", v.Reason, err)
	}
}

func TestValidatePlace(t *testing.T) {
	t.Parallel()
	for names, want := range map[string]int{"dnsbl spamassassin score deliver": 0, "score dnsbl": 0, "score spamassassin rspamd": 2} {
		modules := strings.Fields(names)
		if got := new(Score).ValidatePlace(modules, slices.Index(modules, "score")); len(got) != want {
			t.Errorf("%s: %+v, want %d problems", names, got, want)
		}
	}
}
