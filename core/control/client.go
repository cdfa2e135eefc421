package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// Client asks the server that has a data directory. It is safe for concurrent
// use.
type Client struct {
	dir  string
	http *http.Client
}

// Connect finds the server that has a data directory; ErrNotRunning if none
// answers at its socket.
func Connect(ctx context.Context, dir string) (*Client, error) {
	conn, err := dial(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return nil, ErrNotRunning
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open control socket in %s: %w; run the command as root or as the user of the server", dir, err)
	case err != nil:
		return nil, fmt.Errorf("open control socket in %s: %w", dir, err)
	}
	if err := conn.Close(); err != nil {
		return nil, fmt.Errorf("open control socket in %s: %w", dir, err)
	}
	c := &Client{dir: dir}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dir) },
	}}
	return c, nil
}

// Close gives up the connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// request sends a request. The answer's body is to be closed; an answer that is
// a problem becomes an error, with its report if it has one.
func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Response, *Report, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, nil, fmt.Errorf("ask server: %w", err)
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://control"+path, content)
	if err != nil {
		return nil, nil, fmt.Errorf("ask server: %w", err)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the server on %s: %w", c.dir, errors.Unwrap(err))
	}
	if response.StatusCode == http.StatusOK {
		return response, nil, nil
	}
	defer response.Body.Close()
	report, err := readProblem(response)
	return nil, report, err
}

// ask sends a request and decodes the answer.
func (c *Client) ask(ctx context.Context, method, path string, body, into any) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout+stallTimeout)
	defer cancel()
	response, report, err := c.request(ctx, method, path, body)
	if err != nil {
		return report, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(into); err != nil {
		return nil, fmt.Errorf("read the answer of the server on %s: %w", c.dir, err)
	}
	return nil, nil
}

// AddUser makes an account.
func (c *Client) AddUser(ctx context.Context, address string, password mail.Secret) error {
	_, err := c.ask(ctx, http.MethodPost, "/v1/users", account{address, password.Reveal()}, new(any))
	return err
}

// SetPassword replaces an account's password.
func (c *Client) SetPassword(ctx context.Context, address string, password mail.Secret) error {
	_, err := c.ask(ctx, http.MethodPut, "/v1/users/password", account{address, password.Reveal()}, new(any))
	return err
}

// RemoveUser deletes an account and its mail.
func (c *Client) RemoveUser(ctx context.Context, address string) error {
	_, err := c.ask(ctx, http.MethodPost, "/v1/users/remove", account{Address: address}, new(any))
	return err
}

// Users lists the accounts.
func (c *Client) Users(ctx context.Context) ([]mail.Account, error) {
	var list []userJSON
	if _, err := c.ask(ctx, http.MethodGet, "/v1/users", nil, &list); err != nil {
		return nil, err
	}
	var accounts []mail.Account
	for _, u := range list {
		accounts = append(accounts, mail.Account(u))
	}
	return accounts, nil
}

// Trace finds the record of a message or a login, or all those of a session.
func (c *Client) Trace(ctx context.Context, id string) ([]*trace.Record, error) {
	var list []*trace.Record
	_, err := c.ask(ctx, http.MethodGet, "/v1/trace?id="+url.QueryEscape(id), nil, &list)
	return list, err
}

// FindTraces gives the newest n records that match, the oldest of them first.
func (c *Client) FindTraces(ctx context.Context, f trace.Filter, n int) ([]*trace.Record, error) {
	var list []*trace.Record
	_, err := c.ask(ctx, http.MethodPost, "/v1/traces/find", search{f, n}, &list)
	return list, err
}

// LastTraces gives the newest n records, the oldest of them first.
func (c *Client) LastTraces(ctx context.Context, n int) ([]*trace.Record, error) {
	return c.FindTraces(ctx, trace.Filter{}, n)
}

// maxLine bounds a record that is followed, in bytes.
const maxLine = 4 << 20

// FollowTraces shows each record as it is added.
func (c *Client) FollowTraces(ctx context.Context, show func(*trace.Record) error) error {
	response, _, err := c.request(ctx, http.MethodGet, "/v1/follow", nil)
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

// Domains lists the domains of the configuration in force.
func (c *Client) Domains(ctx context.Context) ([]Domain, error) {
	var list []Domain
	_, err := c.ask(ctx, http.MethodGet, "/v1/domains", nil, &list)
	return list, err
}

// Reload swaps in the configuration file as it is now.
func (c *Client) Reload(ctx context.Context) (*Report, error) {
	report := new(Report)
	if refused, err := c.ask(ctx, http.MethodPost, "/v1/reload", nil, report); err != nil {
		return refused, err
	}
	return report, nil
}

// Status tells what runs.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	s := new(Status)
	if _, err := c.ask(ctx, http.MethodGet, "/v1/status", nil, s); err != nil {
		return nil, err
	}
	return s, nil
}

var _ Operations = (*Client)(nil)
