package verdict

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func block(settings string) string { return "verdict \"own\" {\n" + settings + "\n}" }

func TestConformance(t *testing.T) {
	bad := []coretest.Bad{
		{Config: block(``), Attribute: ""},
		{Config: block(`action = "hold"`), Attribute: "action", Code: "config/bad-value"},
		{Config: block("action = \"reject\"\ntext = \"zwei\\nZeilen\""), Attribute: "text"},
		{Config: block("action = \"reject\"\ntext = \"größer\""), Attribute: "text"},
		{Config: block("action = \"reject\"\nreason = \"" + strings.Repeat("x", maxText+1) + "\""), Attribute: "reason"},
		{Config: block("action = \"quarantine\"\nreason = \" \""), Attribute: "reason"},
		{Config: block("action = \"quarantine\"\nstage = [\"mail\"]"), Attribute: "action"},
		{Config: block("action = \"reject\"\nstage = [\"auth\"]"), Attribute: "stage"},
	}
	for _, settings := range []string{
		"action = \"reject\"\nstage = [\"connect\", \"helo\", \"mail\", \"rcpt\", \"data\"]",
		"action = \"defer\"\nstage = [\"rcpt\"]\ntext = \"Come again\"",
		`action = "quarantine"`, `action = "tag"`, `action = "accept"`, `action = "discard"`,
	} {
		coretest.TestHandler(t, coretest.HandlerSuite{ID: "handler.verdict", Config: block(settings), Bad: bad})
	}
}

func TestHandle(t *testing.T) {
	t.Parallel()
	tests := []struct {
		settings string
		stage    mail.Stage
		action   mail.Action
		reply    string
		tags     []string
	}{
		{settings: `action = "accept"`, stage: mail.StageData, action: mail.ActionAccept},
		{settings: `action = "tag"`, stage: mail.StageData, action: mail.ActionContinue, tags: []string{"own"}},
		{settings: `action = "quarantine"`, stage: mail.StageRcpt, action: mail.ActionQuarantine},
		{settings: `action = "discard"`, stage: mail.StageData, action: mail.ActionDiscard},
		{settings: "action = \"defer\"\ntext = \"Come again\"", stage: mail.StageMail, action: mail.ActionDefer, reply: "451 4.7.1 Come again"},
		{settings: "action = \"reject\"\ntext = \"No\"", stage: mail.StageData, action: mail.ActionReject, reply: "550 5.7.1 No"},
		{settings: "action = \"reject\"\ntext = \"No\"", stage: mail.StageConnect, action: mail.ActionReject, reply: "554 5.7.1 No"},
		{settings: `action = "reject"`, stage: mail.StageHelo, action: mail.ActionReject},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.settings, test.stage), func(t *testing.T) {
			t.Parallel()
			v := coretest.Load[*Verdict](t, coretest.New(t, coretest.Options{}), "handler.verdict", block(test.settings+"\nreason = \"so it is\""))
			tx := coretest.Transaction(t, test.stage, 1)
			got, err := v.Handle(t.Context(), tx)
			if err != nil || got.Action != test.action || got.Reason != "so it is" {
				t.Errorf("verdict %+v, error %v, want %s", got, err, test.action)
			}
			if reply := got.Reply.String(); got.Reply.Code != 0 && reply != test.reply || got.Reply.Code == 0 && test.reply != "" {
				t.Errorf("reply %q, want %q", reply, test.reply)
			}
			if !slices.Equal(tx.Tags(), test.tags) {
				t.Errorf("tags %q, want %q", tx.Tags(), test.tags)
			}
		})
	}
}
