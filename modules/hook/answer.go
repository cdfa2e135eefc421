package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of an answer.
const (
	maxAnswer     = 64 << 10
	maxText       = 200 // bytes of the text for the client
	maxReason     = 400 // bytes of the reason for the operator
	maxScore      = 1000
	maxTags       = 20
	maxTag        = 64 // bytes
	maxFields     = 20
	maxFieldName  = 64  // bytes
	maxFieldValue = 900 // bytes, so that the line stays below the 998 of RFC 5322
)

// answer is what a hook has said, see schema/answer.json.
type answer struct {
	action   string
	code     int
	enhanced string
	text     string
	reason   string
	score    *float64
	tags     []string
	fields   []field
}

var actions = [...]string{"continue", "accept", "quarantine", "discard", "defer", "reject"}

// parseAnswer reads an answer that was given at a stage. It takes nothing that it
// does not know, and nothing twice: what a hook means must not be guessed.
func parseAnswer(text []byte, stage mail.Stage) (answer, error) {
	var a answer
	if len(text) > maxAnswer {
		return a, fmt.Errorf("it is longer than %d bytes", maxAnswer)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := object(d, func(name string) error { return a.member(d, name) }); err != nil {
		return a, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return a, errors.New("something follows the object")
	}
	return a, a.check(stage)
}

// object reads an object and calls member for each name, to read the value.
func object(d *json.Decoder, member func(name string) error) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return notAn("object", err)
	}
	seen := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return notAn("object", err)
		}
		if seen[name] {
			return fmt.Errorf("%s stands twice", shown(name))
		}
		seen[name] = true
		if err := member(name); err != nil {
			return fmt.Errorf("%s: %w", shown(name), err)
		}
	}
	_, err := d.Token()
	if err != nil {
		return notAn("object", err)
	}
	return nil
}

func notAn(what string, err error) error {
	switch {
	case err == nil:
		return fmt.Errorf("it is no JSON %s", what)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it ends before the end of the JSON %s", what)
	default:
		return fmt.Errorf("it is no JSON %s: %s", what, mail.Printable(err.Error(), maxText))
	}
}

// shown is a hook's word in an error.
func shown(word string) string { return strconv.Quote(mail.Printable(word, maxTag)) }

// member reads the value of one member.
func (a *answer) member(d *json.Decoder, name string) error {
	switch name {
	case "version":
		var v int
		if err := value(d, &v, "a whole number"); err != nil {
			return err
		}
		if v != version {
			return fmt.Errorf("this server speaks version %d", version)
		}
		return nil
	case "action":
		return value(d, &a.action, "a string")
	case "code":
		return value(d, &a.code, "a whole number")
	case "enhanced":
		return value(d, &a.enhanced, "a string")
	case "text":
		return value(d, &a.text, "a string")
	case "reason":
		return value(d, &a.reason, "a string")
	case "score":
		a.score = new(float64)
		return value(d, a.score, "a number")
	case "tags":
		return value(d, &a.tags, "a list of strings")
	case "add_header":
		return object(d, func(name string) error {
			a.fields = append(a.fields, field{Name: name})
			return value(d, &a.fields[len(a.fields)-1].Value, "a string")
		})
	default:
		return errors.New("there is no such member in an answer")
	}
}

// value reads a value that is not null.
func value[T any](d *json.Decoder, into *T, what string) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return notAn("value", err)
	}
	var p *T
	if err := json.Unmarshal(raw, &p); err != nil || p == nil {
		return fmt.Errorf("it must be %s", what)
	}
	*into = *p
	return nil
}

// check finds what does not fit: the action, the stage, the bounds.
func (a *answer) check(stage mail.Stage) error {
	if a.action == "" {
		return errors.New("action is missing")
	}
	if !slices.Contains(actions[:], a.action) {
		return fmt.Errorf("action: %s is none; the actions are %s", shown(a.action), strings.Join(actions[:], ", "))
	}
	if stage < mail.StageMail && (a.action == "quarantine" || a.action == "discard" || len(a.tags) > 0 || len(a.fields) > 0) {
		return fmt.Errorf("at the stage %s there is no message yet to be kept out of the inbox, discarded, tagged or added to", stage)
	}
	if a.score != nil && math.Abs(*a.score) > maxScore {
		return fmt.Errorf("score: it is not between -%d and %d", maxScore, maxScore)
	}
	if a.reason != mail.Printable(a.reason, maxReason) {
		return fmt.Errorf("reason: it is longer than %d bytes, or not one printable line", maxReason)
	}
	if err := a.checkReply(); err != nil {
		return err
	}
	if err := a.checkTags(); err != nil {
		return err
	}
	return a.checkFields()
}

// checkReply holds code, enhanced and text against the action (RFC 5321 section
// 4.2.1, RFC 3463 section 2).
func (a *answer) checkReply() error {
	class := 0
	switch a.action {
	case "defer":
		class = 4
	case "reject":
		class = 5
	default:
		if a.code != 0 || a.enhanced != "" || a.text != "" {
			return fmt.Errorf("code, enhanced and text are for defer and reject, and the action is %s", a.action)
		}
		return nil
	}
	if a.code != 0 && (a.code/100 != class || a.code%100 > 59) {
		return fmt.Errorf("code: %d is no reply code of class %d, as %s needs", a.code, class, a.action)
	}
	if a.enhanced != "" {
		if code, ok := parseEnhanced(a.enhanced); !ok || code[0] != class {
			return fmt.Errorf("enhanced: %s is no status code of class %d, such as %d.7.1", shown(a.enhanced), class, class)
		}
	}
	if a.text != "" && !isLine(a.text, maxText) {
		return fmt.Errorf("text: it is longer than %d bytes, or not one line of printable US-ASCII", maxText)
	}
	return nil
}

// parseEnhanced reads class.subject.detail, without leading zeros.
func parseEnhanced(text string) (code mail.EnhancedCode, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) != len(code) {
		return code, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || n > 999 || strconv.FormatUint(n, 10) != part {
			return code, false
		}
		code[i] = int(n)
	}
	return code, true
}

// isLine tells whether text is one line of printable US-ASCII without white space
// around it.
func isLine(text string, limit int) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return len(text) <= limit && strings.TrimSpace(text) == text
}

func (a *answer) checkTags() error {
	if len(a.tags) > maxTags {
		return fmt.Errorf("tags: there are more than %d", maxTags)
	}
	for _, tag := range a.tags {
		if tag == "" || len(tag) > maxTag || !isWord(tag, "._=+-") {
			return fmt.Errorf("tags: %s is not a word of at most %d letters, digits and ._=+-", shown(tag), maxTag)
		}
	}
	return nil
}

// reservedFields are what this server itself writes about a message.
const reservedFields = "x-mox-like-"

// checkFields lets a hook add fields of its own only: others have a meaning to
// those who read the message, and a hook that is fooled must not forge them.
func (a *answer) checkFields() error {
	if len(a.fields) > maxFields {
		return fmt.Errorf("add_header: there are more than %d fields", maxFields)
	}
	seen := make(map[string]bool)
	for _, f := range a.fields {
		name := strings.ToLower(f.Name)
		switch {
		case len(name) < 3 || len(name) > maxFieldName || !strings.HasPrefix(name, "x-") || !isWord(name, "-_"):
			return fmt.Errorf("add_header: %s is not X- and a word of letters, digits, - and _, of at most %d bytes", shown(f.Name), maxFieldName)
		case strings.HasPrefix(name, reservedFields):
			return fmt.Errorf("add_header: %s is the server's own", shown(f.Name))
		case seen[name]:
			return fmt.Errorf("add_header: %s stands twice", shown(f.Name))
		case !isLine(f.Value, maxFieldValue):
			return fmt.Errorf("add_header: the value of %s is longer than %d bytes, or not one line of printable US-ASCII", shown(f.Name), maxFieldValue)
		}
		seen[name] = true
	}
	return nil
}

// isWord tells whether a text has only letters and digits of US-ASCII, and of
// others those in also.
func isWord(text, also string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte(also, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// mark writes on the transaction what the hook wants noted: fields take the place
// of those of their name that the message came with.
func (a *answer) mark(tx *mail.Transaction, handler string) {
	if a.score != nil {
		tx.SetScore(handler, *a.score)
	}
	for _, tag := range a.tags {
		tx.AddTag(tag)
	}
	for _, f := range a.fields {
		tx.RemoveHeaderFields(f.Name)
		tx.AddHeaderField(f.Name, f.Value)
	}
}

// verdict is what the hook decided. What it left out of a reply is the usual.
func (a *answer) verdict() mail.Verdict {
	reason := a.reason
	if reason == "" {
		reason = "the hook says " + a.action + " and gives no reason"
	}
	switch a.action {
	case "accept":
		return mail.Accept(reason)
	case "quarantine":
		return mail.Quarantine(reason)
	case "discard":
		return mail.Discard(reason)
	case "defer":
		return mail.Defer(a.reply(mail.NewReply(451, 7, 1, "Try again later")), reason)
	case "reject":
		return mail.Reject(a.reply(mail.NewReply(550, 7, 1, "Refused by local policy")), reason)
	default:
		return mail.Continue(reason)
	}
}

// reply is what the client is told; the zero reply, the stage's usual one, if the
// hook says nothing about it.
func (a *answer) reply(usual mail.Reply) mail.Reply {
	if a.code == 0 && a.enhanced == "" && a.text == "" {
		return mail.Reply{}
	}
	if a.code != 0 {
		usual.Code = a.code
	}
	if code, ok := parseEnhanced(a.enhanced); ok {
		usual.Enhanced = code
	}
	if a.text != "" {
		usual.Text = a.text
	}
	return usual
}
