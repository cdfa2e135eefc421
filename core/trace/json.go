package trace

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// jsonRecord is the JSON form of a record, which programs read: names are only
// ever added.
type jsonRecord struct {
	ID          string      `json:"id"`
	Session     string      `json:"session"`
	Kind        Kind        `json:"kind"`
	Time        time.Time   `json:"time"` // RFC 3339, UTC
	Duration    int64       `json:"duration_us"`
	Protocol    string      `json:"protocol"`
	Listener    string      `json:"listener"`
	RemoteIP    string      `json:"remote_ip"`
	Helo        string      `json:"helo,omitempty"`
	User        string      `json:"user,omitempty"`
	ReversePath *string     `json:"reverse_path,omitempty"` // of messages only
	Recipients  []string    `json:"recipients,omitempty"`
	MessageID   string      `json:"message_id,omitempty"`
	Size        int64       `json:"size,omitempty"`
	Outcome     Outcome     `json:"outcome"`
	Entries     []jsonEntry `json:"entries"`

	Settings map[string][]mail.Setting `json:"settings,omitempty"` // by what entries have
}

// jsonEntry is what one handler said.
type jsonEntry struct {
	Stage     string `json:"stage"`
	Handler   string `json:"handler"`
	Position  string `json:"position,omitempty"`
	Recipient string `json:"recipient,omitempty"`
	Action    string `json:"action"`
	Reason    string `json:"reason,omitempty"`
	Note      string `json:"note,omitempty"`
	Reply     string `json:"reply,omitempty"` // "550 5.7.1 text"
	Duration  int64  `json:"duration_us"`
	Settings  string `json:"settings,omitempty"` // their hash
}

// MarshalJSON gives the record's stable JSON form: names in snake_case,
// durations in microseconds, times in UTC.
func (r *Record) MarshalJSON() ([]byte, error) {
	j := jsonRecord{
		ID: r.ID, Session: r.Session, Kind: r.Kind, Time: r.Time.UTC(), Duration: r.Duration.Microseconds(),
		Protocol: r.Protocol, Listener: r.Listener, RemoteIP: r.RemoteIP, Helo: r.Helo, User: r.User,
		Recipients: r.Recipients, MessageID: r.MessageID, Size: r.Size, Outcome: r.Outcome, Settings: r.Settings,
		Entries: make([]jsonEntry, len(r.Entries)),
	}
	if r.Kind == KindMessage {
		j.ReversePath = &r.ReversePath
	}
	for i, e := range r.Entries {
		j.Entries[i] = jsonEntry{
			Stage: e.Stage.String(), Handler: e.Handler, Position: e.Position, Recipient: e.Recipient,
			Action: e.Action.String(), Reason: e.Reason, Note: e.Note, Duration: e.Duration.Microseconds(),
			Settings: e.Settings.Hash().String(),
		}
		if e.Reply.Code != 0 {
			j.Entries[i].Reply = e.Reply.String()
		}
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON gives.
func (r *Record) UnmarshalJSON(data []byte) error {
	var j jsonRecord
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*r = Record{
		ID: j.ID, Session: j.Session, Kind: j.Kind, Time: j.Time, Duration: microseconds(j.Duration),
		Protocol: j.Protocol, Listener: j.Listener, RemoteIP: j.RemoteIP, Helo: j.Helo, User: j.User,
		Recipients: j.Recipients, MessageID: j.MessageID, Size: j.Size, Outcome: j.Outcome, Settings: j.Settings,
	}
	if j.ReversePath != nil {
		r.ReversePath = *j.ReversePath
	}
	for _, je := range j.Entries {
		e, err := je.entry()
		if err != nil {
			return fmt.Errorf("read entry of trace %s: %w", j.ID, err)
		}
		r.Entries = append(r.Entries, e)
	}
	return nil
}

func (j jsonEntry) entry() (mail.Entry, error) {
	e := mail.Entry{
		Handler: j.Handler, Position: j.Position, Recipient: j.Recipient,
		Reason: j.Reason, Note: j.Note, Duration: microseconds(j.Duration),
	}
	var ok bool
	if e.Stage, ok = mail.ParseStage(j.Stage); !ok {
		return e, fmt.Errorf("there is no stage %q", j.Stage)
	}
	if e.Action, ok = parseAction(j.Action); !ok {
		return e, fmt.Errorf("there is no action %q", j.Action)
	}
	hash, err := mail.ParseSettingsHash(j.Settings)
	if err != nil {
		return e, err
	}
	e.Settings = interned{}.of(hash)
	e.Reply, err = parseReply(j.Reply)
	return e, err
}

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// parseAction is the reverse of mail.Action.String.
func parseAction(name string) (mail.Action, bool) {
	for a := mail.ActionContinue; a <= mail.ActionReject; a++ {
		if a.String() == name {
			return a, true
		}
	}
	return 0, false
}

// parseReply is the reverse of mail.Reply.String; "" is the zero Reply.
func parseReply(s string) (mail.Reply, error) {
	if s == "" {
		return mail.Reply{}, nil
	}
	code, rest, _ := strings.Cut(s, " ")
	enhanced, text, _ := strings.Cut(rest, " ")
	r := mail.Reply{Text: text}
	var err error
	if r.Code, err = strconv.Atoi(code); err != nil {
		return mail.Reply{}, fmt.Errorf("reply %q has no code", s)
	}
	parts := strings.Split(enhanced, ".")
	if len(parts) != len(r.Enhanced) {
		return mail.Reply{}, fmt.Errorf("reply %q has no enhanced code", s)
	}
	for i, part := range parts {
		if r.Enhanced[i], err = strconv.Atoi(part); err != nil {
			return mail.Reply{}, fmt.Errorf("reply %q has no enhanced code", s)
		}
	}
	return r, nil
}
