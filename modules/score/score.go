// Package score is handler.score: it sums the points that the handlers in front of it
// gave a message, and acts on the sum.
package score

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(&Score{}) }

// Score sums the points that handlers gave a message for being unwanted, also those
// that only tag or are being monitored, and acts on the sum. It stands behind all
// that give points.
type Score struct {
	// Tag is the sum from which on a message gets the tag score=high. 0 turns it off.
	Tag float64 `config:"tag" default:"3" min:"0" max:"10000"`
	// Quarantine is the sum from which on a message is kept out of the inbox. 0 turns
	// it off.
	Quarantine float64 `config:"quarantine" default:"5" min:"0" max:"10000"`
	// Reject is the sum from which on a message is refused, by 550 5.7.1. 0 turns it
	// off.
	Reject float64 `config:"reject" default:"10" min:"0" max:"10000"`
}

// Module describes the handler.
func (*Score) Module() core.Info {
	return core.Info{
		ID:     "handler.score",
		Stages: mail.AtData,
		New:    func() core.Module { return new(Score) },
	}
}

// Validate checks that the thresholds are in order.
func (s *Score) Validate() core.Problems {
	var problems core.Problems
	if s.Tag == 0 && s.Quarantine == 0 && s.Reject == 0 {
		problems.Warnf("", "score has nothing to do: tag, quarantine and reject are 0, which turns each off")
	}
	order := func(name string, value float64, milder string, other float64) {
		if value > 0 && other >= value {
			problems.Errorf(name, "%s = %s is not above %s = %s, which would never come about", name, points(value), milder, points(other))
		}
	}
	order("quarantine", s.Quarantine, "tag", s.Tag)
	order("reject", s.Reject, "quarantine", s.Quarantine)
	if s.Quarantine == 0 {
		order("reject", s.Reject, "tag", s.Tag)
	}
	return problems
}

// maxReason bounds what goes into a trace, in bytes.
const maxReason = 480

// Handle sums up.
func (s *Score) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	// Points are given in decimals, whose sums are not exact.
	sum := math.Round(tx.Score()*1000) / 1000
	reason := explain(sum, tx.Scores())
	switch {
	case s.Reject > 0 && sum >= s.Reject:
		reply := mail.NewReply(550, 7, 1, "The message looks like spam")
		return mail.Reject(reply, reason+"; rejected from "+points(s.Reject)+" on"), nil
	case s.Quarantine > 0 && sum >= s.Quarantine:
		return mail.Quarantine(reason + "; quarantined from " + points(s.Quarantine) + " on"), nil
	case s.Tag > 0 && sum >= s.Tag:
		tx.AddTag("score=high")
		return mail.Continue(reason + "; tagged from " + points(s.Tag) + " on"), nil
	default:
		return mail.Continue(reason), nil
	}
}

// explain says who gave how much.
func explain(sum float64, scores []mail.Points) string {
	if len(scores) == 0 {
		return "no handler gave points"
	}
	list := make([]string, 0, len(scores))
	for _, p := range scores {
		list = append(list, p.Source+" "+points(p.Points))
	}
	return mail.Printable(fmt.Sprintf("%s points: %s", points(sum), strings.Join(list, ", ")), maxReason)
}

// points writes points with at most three decimals.
func points(p float64) string {
	return strconv.FormatFloat(math.Round(p*1000)/1000, 'f', -1, 64)
}

// ValidatePlace warns of a place in front of handlers whose points it would miss.
func (*Score) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	for _, module := range modules[place:] {
		switch module {
		case "spamassassin", "rspamd":
			problems.Warnf("", "score stands in front of %s, and misses its points for the message; write it behind %s", module, module)
		}
	}
	return problems
}

var (
	_ core.Validator      = (*Score)(nil)
	_ core.PlaceValidator = (*Score)(nil)
	_ core.Handler        = (*Score)(nil)
)
