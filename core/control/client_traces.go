package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// Trace finds the record of a message or a login, or a page of those of a session.
func (c *Client) Trace(ctx context.Context, id, after string) (*trace.Found, error) {
	if id == "" {
		return nil, fmt.Errorf("find trace: no id is named: %w", ErrNotFound)
	}
	return c.records(ctx, path("v1", "traces", id), query("after", after))
}

// records asks for records.
func (c *Client) records(ctx context.Context, path string, q url.Values) (*trace.Found, error) {
	var list recordList
	if err := c.get(ctx, path, q, &list); err != nil {
		return nil, err
	}
	return &trace.Found{Records: list.Traces, Next: list.Next, Cut: list.Cut, Damaged: list.Damaged}, nil
}

// FindTraces gives the newest n records that match, the oldest of them first.
func (c *Client) FindTraces(ctx context.Context, f trace.Filter, n int) (*trace.Found, error) {
	q := query("from", f.From, "to", f.To, "user", f.User, "outcome", f.Outcome,
		"message_id", f.MessageID, "handler", f.Handler, "verdict", f.Verdict)
	setTime(q, "since", f.Since)
	setTime(q, "until", f.Until)
	if f.IP.IsValid() {
		q.Set("ip", f.IP.String())
	}
	q.Set("last", strconv.Itoa(n))
	return c.records(ctx, "/v1/traces", q)
}

// setTime adds a time, unless it is zero.
func setTime(q url.Values, name string, t time.Time) {
	if !t.IsZero() {
		q.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

// TraceSettings gives the settings of a handler that entries refer to by a hash.
func (c *Client) TraceSettings(ctx context.Context, hash string) ([]mail.Setting, error) {
	if hash == "" {
		return nil, Invalid(errors.New("find settings of a trace: no hash is named"))
	}
	var list struct {
		Settings []mail.Setting `json:"settings"`
	}
	err := c.get(ctx, path("v1", "traces", "settings", hash), nil, &list)
	return list.Settings, err
}

// LastTraces gives the newest n records, the oldest of them first.
func (c *Client) LastTraces(ctx context.Context, n int) ([]*trace.Record, error) {
	return recordsOf(c.FindTraces(ctx, trace.Filter{}, n))
}

// maxLine bounds a record that is followed, in bytes.
const maxLine = 4 << 20

// FollowTraces shows each record as it is added.
func (c *Client) FollowTraces(ctx context.Context, show func(*trace.Record) error) error {
	response, _, err := c.send(ctx, request{method: http.MethodGet, path: "/v1/traces/follow"})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		r := new(trace.Record)
		if err := json.Unmarshal(lines.Bytes(), r); err != nil {
			return fmt.Errorf("follow traces: %w", err)
		}
		if err := show(r); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("follow traces: %w", err)
	}
	return nil
}
