package ratelimit

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// The values of count. The empty one stands for whatever comes at the stage.
const (
	countConnections = "connections"
	countMessages    = "messages"
	countRecipients  = "recipients"
	countBytes       = "bytes"
	countFailed      = "failed"
)

// stagesOf are those at which a count can be looked at, and the one at which it
// must be, since there it is counted.
func stagesOf(count string) (allowed, needed mail.Stages) {
	switch count {
	case countConnections:
		return mail.AtConnect, mail.AtConnect
	case countMessages:
		return mail.AtMail | mail.AtRcpt | mail.AtData, 0
	case countRecipients:
		return mail.AtRcpt, mail.AtRcpt
	case countBytes:
		return mail.AtMail | mail.AtRcpt | mail.AtData, mail.AtData
	case countFailed:
		return mail.AtConnect | mail.AtMail | mail.AtRcpt, mail.AtRcpt
	default:
		return actsAt, 0
	}
}

// counted tells whether what comes at a stage counts. At the others the handler
// only looks whether the limit is reached.
func (r *Ratelimit) counted(stage mail.Stage) bool {
	switch r.Count {
	case countBytes:
		return stage == mail.StageData
	case countFailed:
		return false // see Observe
	default:
		return true
	}
}

// weight is how much a transaction would add.
func (r *Ratelimit) weight(tx *mail.Transaction) int {
	switch {
	case r.Count != countBytes:
		return 1
	case tx.Message != nil:
		return units(tx.Message.Size)
	default:
		return units(tx.Envelope.Size) // as declared
	}
}

// DefaultStages is the first stage at which everything is known that the key
// names and that is counted. Bytes are looked at before they are sent, too.
func (r *Ratelimit) DefaultStages() mail.Stages {
	known := r.parts.known()
	switch r.Count {
	case countConnections:
		return mail.AtConnect
	case countMessages:
		return mail.At(max(known, mail.StageMail))
	case countRecipients, countFailed:
		return mail.AtRcpt
	case countBytes:
		return mail.At(max(known, mail.StageMail)) | mail.AtData
	default:
		return mail.At(known)
	}
}

// Validate refuses an empty key, a window that cannot be kept, and what does not
// go together.
func (r *Ratelimit) Validate() core.Problems {
	var problems core.Problems
	if len(r.parts) == 0 {
		problems.Errorf("key", "the key is empty, so there is nothing to count by: write what, such as \"ip\"")
	}
	if r.Limit.Window < minWindow || r.Limit.Window > maxWindow {
		problems.Errorf("limit", "the time of the limit %s is not between %s and %s: write another, such as \"100/1h\"",
			r.Limit, config.FormatDuration(minWindow), config.FormatDuration(maxWindow))
	}
	switch bytes := r.Limit.Size > 0; {
	case bytes && r.Count != countBytes:
		problems.Errorf("limit", "the limit %s is one of bytes, and the count is %s: write a number, such as \"100/1h\", or leave count out", r.Limit, r.Count)
	case !bytes && r.Count == countBytes:
		problems.Errorf("limit", "the count is bytes, and the limit %s has no unit: write a size, such as \"500MB/1h\"", r.Limit)
	}
	if r.Count == countConnections && r.parts.known() != mail.StageConnect {
		problems.Errorf("count", "connections are counted when they are made, and all that is known then is the key \"ip\"")
	}
	return problems
}

// ValidateStages refuses a stage at which part of the key or what is counted is
// never known.
func (r *Ratelimit) ValidateStages(stages mail.Stages) core.Problems {
	var problems core.Problems
	known := r.parts.known()
	if known == mail.StageMail && r.parts.onlyUser() {
		known = mail.StageAuth // where the client names the user
	}
	for stage := range known {
		if stages.Has(stage) {
			problems.Errorf("stage", "at the stage %s it is not known yet what is counted by: the key %s is known from %s on",
				stage, r.keyNames(), known)
		}
	}
	allowed, needed := stagesOf(r.Count)
	if wrong := stages &^ allowed; wrong != 0 {
		problems.Errorf("stage", "%s are not known at the stage %s: choose among %s", r.Count, names(wrong), names(allowed))
	}
	if stages&needed != needed {
		problems.Errorf("stage", "%s are counted at the stage %s: add it, or leave stage out", r.Count, names(needed))
	}
	if r.Count == countMessages && bits.OnesCount8(uint8(stages)) > 1 {
		problems.Errorf("stage", "at %s each message would count more than once: choose one of them", names(stages))
	}
	if r.Count == countMessages && stages.Has(mail.StageRcpt) && !r.parts.hasRecipient() {
		problems.Errorf("stage", "at the stage rcpt each recipient would count as a message: choose mail or data")
	}
	return problems
}

// tooMuch is what a client over the limit is told (RFC 5321 section 4.2.2, RFC
// 4954 section 6).
func (r *Ratelimit) tooMuch(stage mail.Stage, wait time.Duration) mail.Reply {
	seconds, unit := (wait+time.Second-1)/time.Second, "seconds"
	if seconds == 1 {
		unit = "second"
	}
	text := fmt.Sprintf("Too %s, try again in %d %s", r.what(stage), seconds, unit)
	switch {
	case stage == mail.StageConnect || r.Action == actionDisconnect:
		return mail.NewReply(421, 7, 0, text)
	case stage == mail.StageAuth:
		return mail.NewReply(454, 7, 0, text)
	default:
		return mail.NewReply(450, 7, 1, text)
	}
}

// what says what a client has too much of.
func (r *Ratelimit) what(stage mail.Stage) string {
	switch r.Count {
	case countBytes:
		return "much mail"
	case countFailed:
		return "many refused recipients"
	case countMessages:
		return "many messages"
	}
	switch stage {
	case mail.StageConnect:
		return "many connections"
	case mail.StageAuth:
		return "many logins"
	case mail.StageRcpt:
		return "many recipients"
	default:
		return "many messages"
	}
}
