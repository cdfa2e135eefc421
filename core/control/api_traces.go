package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

const (
	tagTraces  = "traces"
	followPath = "/v1/traces/follow"
)

// recordList is trace.Found.
type recordList struct {
	Traces  []*trace.Record `json:"traces"`
	Next    string          `json:"next,omitempty" doc:"Behind which the records of a session go on."`
	Cut     bool            `json:"cut,omitempty" doc:"There is more of what was asked for, which would be too much at once."`
	Damaged int             `json:"damaged,omitempty" doc:"How many of the records that were looked at cannot be read."`
}

// giveRecords makes the answer of what was found.
func giveRecords(found *trace.Found, err error) (*answer[recordList], error) {
	if err != nil {
		return nil, err
	}
	return &answer[recordList]{recordList{Traces: filled(found.Records), Next: found.Next, Cut: found.Cut, Damaged: found.Damaged}}, nil
}

// traceRecord describes the JSON form of a record.
type traceRecord struct {
	ID          string        `json:"id"`
	Session     string        `json:"session"`
	Kind        string        `json:"kind" enum:"session,login,message"`
	Time        time.Time     `json:"time"`
	Duration    int64         `json:"duration_us" doc:"In microseconds."`
	Protocol    string        `json:"protocol"`
	Listener    string        `json:"listener"`
	RemoteIP    string        `json:"remote_ip"`
	Helo        string        `json:"helo,omitempty"`
	User        string        `json:"user,omitempty"`
	ReversePath *string       `json:"reverse_path,omitempty" doc:"Of messages only."`
	Recipients  []string      `json:"recipients,omitempty"`
	MessageID   string        `json:"message_id,omitempty"`
	Size        int64         `json:"size,omitempty" doc:"In bytes."`
	Outcome     trace.Outcome `json:"outcome"`
	Entries     []traceEntry  `json:"entries" doc:"What the handlers said, in order."`

	Settings map[string][]traceSetting `json:"settings,omitempty" doc:"The settings that were in force, by what the entries have. Given with one record or a session's, not by searches, and once in an answer, with the first record that needs them."`
}

type traceEntry struct {
	Stage     string `json:"stage"`
	Handler   string `json:"handler"`
	Position  string `json:"position,omitempty"`
	Recipient string `json:"recipient,omitempty"`
	Action    string `json:"action"`
	Reason    string `json:"reason,omitempty"`
	Note      string `json:"note,omitempty"`
	Reply     string `json:"reply,omitempty"`
	Duration  int64  `json:"duration_us" doc:"In microseconds."`
	Settings  string `json:"settings,omitempty" doc:"Names the handler's settings that were in force."`
}

// traceSetting is mail.Setting under a name of its own: the API has other settings.
type traceSetting mail.Setting

// settingsOfTrace are the settings of one handler.
type settingsOfTrace struct {
	Settings []traceSetting `json:"settings"`
}

func (a *api) traceRoutes() {
	handle(a, endpoint{
		id: "find-traces", method: http.MethodGet, path: "/v1/traces", summary: "Find records of decisions", errors: []int{422},
		text: "The newest that match, the oldest of them first, of the newest " + strconv.Itoa(trace.MaxScan) + " that began within the time. Texts are looked for as parts, handlers by their whole names.",
	}, tagTraces, func(ctx context.Context, in *traceFilter) (*answer[recordList], error) {
		f, err := in.filter()
		if err != nil {
			return nil, err
		}
		return giveRecords(a.Operations().FindTraces(ctx, f, in.Last))
	})
	handle(a, endpoint{
		id: "get-trace", method: http.MethodGet, path: "/v1/traces/{id}", summary: "Give the record of a message or a login, or all of a session", errors: []int{404},
		text: "Those of a session in pages: next is the after of the next one. What an answer has no room for of the settings, get-trace-settings gives.",
	}, tagTraces, func(ctx context.Context, in *struct {
		ID    string `path:"id" maxLength:"255" doc:"The id that the client was told, or that of a session."`
		After string `query:"after" maxLength:"255" doc:"The next of the page before."`
	},
	) (*answer[recordList], error) {
		return giveRecords(a.Operations().Trace(ctx, in.ID, in.After))
	})
	handle(a, endpoint{
		id: "get-trace-settings", method: http.MethodGet, path: "/v1/traces/settings/{hash}", summary: "Give the settings by which a handler decided", errors: []int{404, 422},
		text: "As they were in force then. Values that are secret, or that only the file can set, are not shown.",
	}, tagTraces, func(ctx context.Context, in *struct {
		Hash string `path:"hash" maxLength:"64" doc:"The settings of an entry of a record."`
	},
	) (*answer[settingsOfTrace], error) {
		list, err := a.Operations().TraceSettings(ctx, in.Hash)
		out := settingsOfTrace{make([]traceSetting, len(list))}
		for i, s := range list {
			out.Settings[i] = traceSetting(s)
		}
		return give(out, err)
	})
	record := a.schema.OpenAPI().Components.Schemas.Schema(recordType, true, "")
	handle(a, endpoint{
		id: "follow-traces", method: http.MethodGet, path: followPath, summary: "Show records as they are added", errors: []int{503},
		text: "One JSON object a line, and an empty line once it has begun; as server-sent events for those who accept text/event-stream.",
		answer: &huma.Response{Description: "Records, until the client leaves.", Content: map[string]*huma.MediaType{
			"application/x-ndjson": {Schema: record}, "text/event-stream": {Schema: record},
		}},
	}, tagTraces, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(c huma.Context) { a.follow(humago.Unwrap(c)) }}, nil
	})
}

// traceFilter are the parameters of a search.
type traceFilter struct {
	From      string `query:"from" maxLength:"320" doc:"A part of the reverse-path; <> is the null reverse-path."`
	To        string `query:"to" maxLength:"320" doc:"A part of a recipient, also of a refused one."`
	User      string `query:"user" maxLength:"320" doc:"A part of the name of who logged in, or tried to."`
	IP        string `query:"ip" maxLength:"64" doc:"The client's address, or a network that it is in."`
	Outcome   string `query:"outcome" maxLength:"20" doc:"How it ended: accept, reject, defer, quarantine, discard."`
	MessageID string `query:"message_id" maxLength:"998" doc:"A part of the Message-ID field."`
	Handler   string `query:"handler" maxLength:"255" doc:"A handler that said what verdict asks for, anything but continue without it."`
	Verdict   string `query:"verdict" maxLength:"20" doc:"What the handler, or any, said: continue, accept, quarantine, discard, defer, reject; error where it failed, skipped where its when was false, monitored where it would have acted."`
	Since     Moment `query:"since" doc:"Only what began at this time (RFC 3339) or later, or since so long ago, as 2h or 7d."`
	Until     Moment `query:"until" doc:"Only what began before this time, or longer ago than that."`
	Last      int    `query:"last" default:"100" minimum:"1" maximum:"10000" doc:"How many at most."`
}

func (f *traceFilter) filter() (trace.Filter, error) {
	var network netip.Prefix
	if f.IP != "" {
		var err error
		if network, err = parseNetwork(f.IP); err != nil {
			return trace.Filter{}, fmt.Errorf("find traces: %w", err)
		}
	}
	return trace.Filter{
		From: f.From, To: f.To, User: f.User, IP: network, Outcome: f.Outcome,
		MessageID: f.MessageID, Handler: f.Handler, Verdict: f.Verdict, Since: f.Since.Time, Until: f.Until.Time,
	}, nil
}

// follow sends records as they are added.
func (a *api) follow(r *http.Request, w http.ResponseWriter) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-a.Leaving:
			cancel()
		case <-stop:
		}
	}()
	c := http.NewResponseController(w)
	mediaType, prefix, suffix := "application/x-ndjson", "", "\n"
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		mediaType, prefix, suffix = "text/event-stream", "data: ", "\n\n"
	}
	send := func(text string) error {
		if err := c.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
			return err
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
		return c.Flush()
	}
	w.Header().Set("Content-Type", mediaType)
	err := send("\n")
	if err == nil {
		err = a.Operations().FollowTraces(ctx, func(record *trace.Record) error {
			line, err := json.Marshal(record)
			if err != nil {
				return err
			}
			return send(prefix + string(line) + suffix)
		})
	}
	if err != nil {
		a.Logger.Info("follower of traces left", zap.Error(err))
	}
}
