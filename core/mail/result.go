package mail

import (
	"fmt"
	"slices"
	"strings"
)

// AuthResult is what one method of authentication found about a message, as an
// Authentication-Results field has it (RFC 8601 section 2.2).
type AuthResult struct {
	// Method is the method's registered name, such as spf, dkim or dmarc.
	Method string
	// Result is the method's own word: pass, fail, softfail, none, …
	Result string
	// Reason explains the result to people, "" if there is nothing to say.
	Reason string
	// Properties are what was judged, in order.
	Properties []Property
}

// Property is one thing that a method has judged (RFC 8601 section 2.3).
type Property struct {
	// Type is where it comes from: smtp, header, body, policy or dns (RFC 8904).
	Type string
	// Name is the name there, such as mailfrom or helo.
	Name string
	// Value is the value as it was judged.
	Value string
}

// SetAuthResult notes a result. A further result of the same method and the same
// properties replaces the one before, so that handlers of several recipients
// note one.
func (tx *Transaction) SetAuthResult(r AuthResult) {
	same := func(o AuthResult) bool { return o.Method == r.Method && slices.Equal(o.Properties, r.Properties) }
	if i := slices.IndexFunc(tx.results, same); i >= 0 {
		tx.results[i] = r
		return
	}
	tx.results = append(tx.results, r)
}

// AuthResults gives all results so far, in the order in which they were noted.
func (tx *Transaction) AuthResults() []AuthResult { return slices.Clone(tx.results) }

// AuthResult gives the first result of a method; false if there is none.
func (tx *Transaction) AuthResult(method string) (AuthResult, bool) {
	for _, r := range tx.results {
		if r.Method == method {
			return r, true
		}
	}
	return AuthResult{}, false
}

// mark is what a handler said about a message without deciding: points, or a
// tag.
type mark struct {
	source string
	score  float64
	tag    string
}

// SetScore gives a message points for being unwanted, negative ones for being
// wanted. source is the handler's name; its further points replace the ones
// before.
func (tx *Transaction) SetScore(source string, points float64) {
	tx.setMark(mark{source: source, score: points})
}

// Score gives the sum of all points.
func (tx *Transaction) Score() float64 {
	sum := 0.0
	for _, m := range tx.marks {
		sum += m.score
	}
	return sum
}

// Points are what one handler gave a message.
type Points struct {
	// Source is the handler's name.
	Source string
	// Points are those that it gave last.
	Points float64
}

// Scores gives what the handlers gave, in the order in which they first did; the
// sum is Score.
func (tx *Transaction) Scores() []Points {
	var scores []Points
	for _, m := range tx.marks {
		if m.tag == "" {
			scores = append(scores, Points{Source: m.source, Points: m.score})
		}
	}
	return scores
}

// AddTag marks a message with a word for the user's filters, such as
// spf=softfail. Tags stand in the header field X-Mox-Like-Tags of the stored
// message, which nobody outside can forge.
func (tx *Transaction) AddTag(tag string) { tx.setMark(mark{source: "tag:" + tag, tag: tag}) }

// Tags gives the tags in the order in which they were added.
func (tx *Transaction) Tags() []string {
	var tags []string
	for _, m := range tx.marks {
		if m.tag != "" {
			tags = append(tags, m.tag)
		}
	}
	return tags
}

func (tx *Transaction) setMark(m mark) {
	if i := slices.IndexFunc(tx.marks, func(o mark) bool { return o.source == m.source }); i >= 0 {
		tx.marks[i] = m
		return
	}
	tx.marks = append(tx.marks, m)
}

// tagsField is the field of the tags.
const tagsField = "X-Mox-Like-Tags"

// finalEdits gives the edits with the field of the tags on top. The field of that
// name that a stranger wrote goes, whether there are tags or not.
func (tx *Transaction) finalEdits() []edit {
	edits := append(slices.Clip(tx.edits), edit{remove: true, name: tagsField})
	if tags := tx.Tags(); len(tags) > 0 {
		value := foldSafe(strings.Join(tags, ", "))
		edits = append(edits, edit{name: tagsField, field: fmt.Sprintf("%s: %s\r\n", tagsField, value)})
	}
	return edits
}
