package mail

import (
	"errors"
	"fmt"
	"time"
)

// Action is what a verdict asks for.
type Action uint8

// The actions, from the mildest on.
const (
	ActionContinue   Action = iota // ask the next handler
	ActionAccept                   // skip the rest of this stage
	ActionQuarantine               // go on, but keep the message out of the inbox
	ActionDiscard                  // answer as if accepted, keep only the trace
	ActionDefer                    // refuse for now (4xx)
	ActionReject                   // refuse for good (5xx)
)

var actionNames = [...]string{"continue", "accept", "quarantine", "discard", "defer", "reject"}

// String gives the action's name in logs, traces and the configuration.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "unknown"
}

// EnhancedCode is an enhanced mail system status code (RFC 3463).
type EnhancedCode [3]int

// Reply is what the client is told: an SMTP reply code (RFC 5321 section 4.2),
// an enhanced status code and a text of one line. Other protocols use the text.
type Reply struct {
	Code     int
	Enhanced EnhancedCode
	Text     string
}

// NewReply makes a reply; its enhanced code is class.subject.detail, the class
// being the first digit of code.
func NewReply(code, subject, detail int, text string) Reply {
	return Reply{Code: code, Enhanced: EnhancedCode{code / 100, subject, detail}, Text: text}
}

// String gives the reply as it goes over the wire, without the line end.
func (r Reply) String() string {
	return fmt.Sprintf("%d %d.%d.%d %s", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Text)
}

// Verdict is a handler's answer at one stage. The zero Verdict continues.
type Verdict struct {
	Action Action
	// Reply is what the client is told when the action is defer or reject; the
	// zero Reply stands for the stage's usual one.
	Reply Reply
	// Reason is for the operator: it goes into the log and the trace, never to
	// the client.
	Reason string
}

// Continue asks the next handler. The reason says what was found.
func Continue(reason string) Verdict { return Verdict{Reason: reason} }

// Accept ends the stage in favour of the client.
func Accept(reason string) Verdict { return Verdict{Action: ActionAccept, Reason: reason} }

// Quarantine lets the message pass, but not into the inbox.
func Quarantine(reason string) Verdict { return Verdict{Action: ActionQuarantine, Reason: reason} }

// Discard takes the message and delivers it nowhere; the trace keeps the reason.
func Discard(reason string) Verdict { return Verdict{Action: ActionDiscard, Reason: reason} }

// Defer asks the client to try again later.
func Defer(reply Reply, reason string) Verdict {
	return Verdict{Action: ActionDefer, Reply: reply, Reason: reason}
}

// Reject refuses for good.
func Reject(reply Reply, reason string) Verdict {
	return Verdict{Action: ActionReject, Reply: reply, Reason: reason}
}

// Outcome is how a stage ended.
type Outcome struct {
	Stage Stage
	Verdict
	// Handler is the name of the handler that ended the stage, "" if all
	// continued.
	Handler string
}

// Refused tells whether the client is turned away, for now or for good.
func (o Outcome) Refused() bool {
	return o.Action == ActionDefer || o.Action == ActionReject
}

// Entry is one line of a trace: what one handler said at one stage.
type Entry struct {
	Stage   Stage
	Handler string
	// Position is where the handler stands in the configuration, "file:line".
	Position string
	// Recipient is set for entries of the rcpt stage.
	Recipient string
	Action    Action
	Reason    string
	// Note tells what the chain itself did, see its Note constants; "" for a
	// verdict that counts.
	Note string
	// Reply is set when the client was refused.
	Reply    Reply
	Duration time.Duration
	// Module is the name of the handler's module. Traces that are stored do not have
	// it.
	Module string
	// Settings are the handler's, which were in force; nil if they are not known.
	Settings *Settings
}

// ReplyError is an error that says both what the client is told and what
// really happened. Targets return it when storing fails.
type ReplyError struct {
	// Reply goes to the client.
	Reply Reply
	// Cause goes to the log.
	Cause error
}

// Error gives the cause.
func (e *ReplyError) Error() string { return e.Cause.Error() }

// Unwrap gives the cause to errors.Is and errors.As.
func (e *ReplyError) Unwrap() error { return e.Cause }

// ReplyOf finds the reply that an error carries; errors without one are
// 451 4.3.0.
func ReplyOf(err error) Reply {
	if re, ok := errors.AsType[*ReplyError](err); ok {
		return re.Reply
	}
	return NewReply(451, 3, 0, "Local error in processing, try again later")
}
