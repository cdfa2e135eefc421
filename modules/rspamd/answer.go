package rspamd

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of what is taken of an answer.
const (
	maxScore   = 1e6
	maxSymbols = 1000
	maxName    = 64  // bytes of a symbol's or action's name
	maxText    = 200 // bytes of a text for the client or of an error
	maxSubject = 1000
)

// answer is what rspamd says about a message.
type answer struct {
	action string
	// score is the sum of the symbols' scores, required the one from which rspamd
	// rejects, and threshold the one from which it adds a header; the latter are 0
	// if rspamd does not say.
	score, required, threshold float64
	// symbols are those that were found, with those first whose scores are furthest
	// from zero.
	symbols []symbol
	// message is for the client.
	message string
	// subject is the new one, if the action is to rewrite it.
	subject string
	// instead is what else rspamd's modules want where it rejects: discard or
	// quarantine.
	instead string
	changes changes
}

// symbol is a rule that matched, and on what.
type symbol struct {
	name    string
	score   float64
	options []string
}

// rawAnswer is the form of an answer. Rspamd writes empty objects as lists at
// times, and lists of one text as the text: the types of its members take that.
type rawAnswer struct {
	Action     *string                 `json:"action"`
	Score      *float64                `json:"score"`
	Required   *float64                `json:"required_score"`
	Thresholds object[float64]         `json:"thresholds"`
	Symbols    object[rawSymbol]       `json:"symbols"`
	Messages   object[json.RawMessage] `json:"messages"`
	Subject    string                  `json:"subject"`
	Milter     object[json.RawMessage] `json:"milter"`
	Signatures texts                   `json:"dkim-signature"`
}

type rawSymbol struct {
	Score   float64 `json:"score"`
	Options texts   `json:"options"`
}

// object is an object, empty if there is something else.
type object[T any] map[string]T

// UnmarshalJSON takes what is no object for an empty one.
func (o *object[T]) UnmarshalJSON(text []byte) error {
	if !bytes.HasPrefix(text, []byte("{")) {
		return nil
	}
	return json.Unmarshal(text, (*map[string]T)(o))
}

// texts is a list of texts.
type texts []string

// UnmarshalJSON takes a single text for a list of one, and leaves out what is no
// text.
func (t *texts) UnmarshalJSON(text []byte) error {
	list := []json.RawMessage{text}
	if bytes.HasPrefix(text, []byte("[")) {
		list = nil
		if err := json.Unmarshal(text, &list); err != nil {
			return err
		}
	}
	for _, one := range list {
		if s, ok := plainText(one); ok {
			*t = append(*t, s)
		}
	}
	return nil
}

// plainText gives a string or a number as text.
func plainText(raw json.RawMessage) (string, bool) {
	var s *string
	if err := json.Unmarshal(raw, &s); err == nil && s != nil {
		return *s, true
	}
	var n json.Number
	if err := json.Unmarshal(raw, &n); err == nil && n != "" && raw[0] != '"' {
		return n.String(), true
	}
	return "", false
}

// parseAnswer reads the answer to /checkv2.
func parseAnswer(text []byte) (answer, error) {
	var raw rawAnswer
	if err := json.Unmarshal(text, &raw); err != nil {
		return answer{}, formError{fmt.Errorf("it is no JSON of the right form: %s", mail.Printable(err.Error(), maxText))}
	}
	if raw.Action == nil || *raw.Action == "" || raw.Score == nil {
		return answer{}, formError{errors.New("it has no action or no score")}
	}
	if !sensible(*raw.Score) {
		return answer{}, formError{fmt.Errorf("its score is not between -%d and %d", int(maxScore), int(maxScore))}
	}
	a := answer{
		action: mail.Printable(*raw.Action, maxName), score: *raw.Score + 0, // -0 becomes 0
		symbols: sorted(raw.Symbols), subject: raw.Subject,
	}
	if raw.Required != nil && sensible(*raw.Required) {
		a.required = *raw.Required
	}
	if t := raw.Thresholds["add header"]; sensible(t) {
		a.threshold = t
	}
	a.message, _ = plainText(raw.Messages["smtp_message"])
	a.instead, _ = plainText(raw.Milter["reject"])
	var err error
	if a.changes, err = parseChanges(raw.Milter, raw.Signatures); err != nil {
		return answer{}, formError{err}
	}
	return a, nil
}

func sensible(score float64) bool { return math.Abs(score) <= maxScore }

// sorted gives the symbols, those that weigh most first.
func sorted(raw map[string]rawSymbol) []symbol {
	symbols := make([]symbol, 0, len(raw))
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if s := raw[name]; name != "" && sensible(s.Score) {
			symbols = append(symbols, symbol{name, s.Score + 0, s.Options})
		}
	}
	slices.SortStableFunc(symbols, func(a, b symbol) int { return cmp.Compare(math.Abs(b.score), math.Abs(a.score)) })
	return symbols[:min(len(symbols), maxSymbols)]
}

// fault says why a response is none to a command: rspamd gives errors as an object
// of its own, or in the status alone.
func (r response) fault() error {
	text := r.reason()
	switch r.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("it says %d %s: set password to the one of that worker", r.code, text)
	default:
		return fmt.Errorf("it says %d %s", r.code, text)
	}
}

// reason is what a response says in words.
func (r response) reason() string {
	var raw struct {
		Error string `json:"error"`
	}
	text := strings.TrimPrefix(r.status, fmt.Sprintf("%d ", r.code))
	if err := json.Unmarshal(r.body, &raw); err == nil && raw.Error != "" {
		text = raw.Error
	}
	return mail.Printable(text, maxText)
}
