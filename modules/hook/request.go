package hook

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/mox-like/mox-like/core/mail"
)

// version is that of the request and the answer. Fields may be added to the
// request without a new one.
const version = 1

// request is what a hook is sent, see schema/request.json.
type request struct {
	Version     int          `json:"version"`
	ID          string       `json:"id"`
	Stage       string       `json:"stage"`
	Handler     string       `json:"handler"`
	Session     session      `json:"session"`
	Envelope    *envelope    `json:"envelope,omitempty"`
	Recipient   string       `json:"recipient,omitempty"`
	Message     *message     `json:"message,omitempty"`
	AuthResults []authResult `json:"auth_results"`
	Score       float64      `json:"score"`
	Tags        []string     `json:"tags"`
	Trial       bool         `json:"trial"`
}

type session struct {
	ID       string `json:"id"`
	Protocol string `json:"protocol"`
	Listener string `json:"listener"`
	IP       string `json:"ip"`
	Helo     string `json:"helo"`
	TLS      string `json:"tls"`
	User     string `json:"user"`
}

type envelope struct {
	ReversePath string   `json:"reverse_path"`
	Recipients  []string `json:"recipients"`
	Size        int64    `json:"size"`
	SMTPUTF8    bool     `json:"smtputf8"`
}

type message struct {
	Size      int64   `json:"size"`
	Header    []field `json:"header,omitempty"`
	Body      []byte  `json:"body,omitempty"`
	Truncated bool    `json:"truncated"`
}

type field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type authResult struct {
	Method     string     `json:"method"`
	Result     string     `json:"result"`
	Reason     string     `json:"reason"`
	Properties []property `json:"properties"`
}

type property struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// request gives what is known of a transaction, in JSON. Bytes that are not UTF-8
// become U+FFFD, but for those of the body.
func (j *judge) request(tx *mail.Transaction) ([]byte, error) {
	r := request{
		Version: version, ID: tx.ID, Stage: tx.Stage.String(), Handler: j.name,
		Session: session{
			ID: tx.Session.ID, Protocol: string(tx.Session.Protocol), Listener: tx.Session.Listener,
			Helo: tx.Session.Helo, User: tx.Session.User,
		},
		AuthResults: []authResult{}, Score: tx.Score(), Tags: append([]string{}, tx.Tags()...), Trial: tx.Trial,
	}
	if addr := tx.Session.RemoteAddr.Addr(); addr.IsValid() {
		r.Session.IP = addr.Unmap().String()
	}
	if state := tx.Session.TLS; state != nil {
		r.Session.TLS = tls.VersionName(state.Version)
	}
	if tx.Stage >= mail.StageMail {
		r.Envelope = newEnvelope(tx.Envelope)
	}
	if tx.Stage == mail.StageRcpt && tx.Recipient != nil {
		r.Recipient = tx.Recipient.Address.String()
	}
	for _, found := range tx.AuthResults() {
		one := authResult{Method: found.Method, Result: found.Result, Reason: found.Reason, Properties: []property{}}
		for _, p := range found.Properties {
			one.Properties = append(one.Properties, property(p))
		}
		r.AuthResults = append(r.AuthResults, one)
	}
	if tx.Stage == mail.StageData && tx.Message != nil {
		var err error
		if r.Message, err = j.message(tx.Message); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(r)
	return b.Bytes(), err
}

func newEnvelope(e mail.Envelope) *envelope {
	out := &envelope{ReversePath: addressText(e.ReversePath), Recipients: []string{}, Size: e.Size, SMTPUTF8: e.SMTPUTF8}
	for _, r := range e.Recipients {
		out.Recipients = append(out.Recipients, r.Address.String())
	}
	return out
}

// addressText gives an address, "" for the null reverse-path.
func addressText(a mail.Address) string {
	if a.IsNull() {
		return ""
	}
	return a.String()
}

// message gives those parts of a message that the settings ask for.
func (j *judge) message(m *mail.Message) (*message, error) {
	out := &message{Size: m.Size}
	if slices.Contains(j.settings.Include, "header") {
		for _, f := range m.Header.Fields {
			out.Header = append(out.Header, field{f.Name, f.Value()})
		}
	}
	if slices.Contains(j.settings.Include, "body") {
		body := m.OpenBody()
		out.Body = make([]byte, min(body.Size(), int64(j.settings.MaxBody)))
		if _, err := io.ReadFull(body, out.Body); err != nil {
			return nil, fmt.Errorf("read message body: %w", err)
		}
		out.Truncated = int64(len(out.Body)) < body.Size()
	}
	return out, nil
}
