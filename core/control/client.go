package control

import (
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
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/mox-like/mox-like/core/mail"
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
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dir) },
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Close gives up the connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// userAgent marks what commands ask for.
const userAgent = "mox-like"

// request is what is asked of the server.
type request struct {
	method string
	path   string
	query  url.Values
	body   any       // sent as JSON
	stream io.Reader // sent as text instead
}

// path gives a path of segments that may have any text.
func path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		if escaped := url.PathEscape(s); escaped == "." || escaped == ".." {
			b.WriteString(strings.ReplaceAll(escaped, ".", "%2E")) // they are no way up
		} else {
			b.WriteString(escaped)
		}
	}
	return b.String()
}

// query gives the parameters that are not empty.
func query(pairs ...string) url.Values {
	values := make(url.Values)
	for pair := range slices.Chunk(pairs, 2) {
		if name, value := pair[0], pair[1]; value != "" {
			values.Set(name, value)
		}
	}
	return values
}

// inPage adds the parameters of a page.
func inPage(values url.Values, p Page) url.Values {
	if p.After != "" {
		values.Set("after", p.After)
	}
	if p.Limit != 0 {
		values.Set("limit", strconv.Itoa(p.Limit))
	}
	return values
}

// send sends a request. The answer's body is to be closed; an answer that is a
// problem becomes an error, with its report if it has one.
func (c *Client) send(ctx context.Context, r request) (*http.Response, *Report, error) {
	content, contentType := r.stream, "text/plain"
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, nil, fmt.Errorf("ask server: %w", err)
		}
		content, contentType = bytes.NewReader(text), "application/json"
	}
	to := "http://control" + r.path
	if len(r.query) > 0 {
		to += "?" + r.query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, r.method, to, content)
	if err != nil {
		return nil, nil, fmt.Errorf("ask server: %w", err)
	}
	request.Header.Set("User-Agent", userAgent)
	if content != nil {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the server on %s: %w", c.dir, errors.Unwrap(err))
	}
	if response.StatusCode/100 == 2 {
		return response, nil, nil
	}
	defer response.Body.Close()
	report, err := readProblem(response)
	return nil, report, err
}

// ask sends a request and decodes the answer, where into is not nil.
func (c *Client) ask(ctx context.Context, r request, into any) (*Report, error) {
	limit := requestTimeout
	if r.stream != nil {
		limit = importTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit+stallTimeout)
	defer cancel()
	response, report, err := c.send(ctx, r)
	if err != nil {
		return report, err
	}
	defer response.Body.Close()
	if into == nil {
		return nil, nil
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(into); err != nil {
		return nil, fmt.Errorf("read the answer of the server on %s: %w", c.dir, err)
	}
	return nil, nil
}

// get asks for what is there.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	_, err := c.ask(ctx, request{method: http.MethodGet, path: path, query: query}, into)
	return err
}

// do asks for a change that answers with into, if that is not nil.
func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	_, err := c.ask(ctx, request{method: method, path: path, body: body}, into)
	return err
}

// AddUser makes an account.
func (c *Client) AddUser(ctx context.Context, address string, password mail.Secret) error {
	return c.do(ctx, http.MethodPost, "/v1/users", newUser{address, password.Reveal()}, nil)
}

// SetPassword replaces an account's password.
func (c *Client) SetPassword(ctx context.Context, address string, password mail.Secret) error {
	return c.do(ctx, http.MethodPut, path("v1", "users", address, "password"), newPassword{password.Reveal()}, nil)
}

// RemoveUser deletes an account and its mail.
func (c *Client) RemoveUser(ctx context.Context, address string) error {
	return c.do(ctx, http.MethodDelete, path("v1", "users", address), nil, nil)
}

// Users lists the accounts.
func (c *Client) Users(ctx context.Context) ([]mail.Account, error) {
	var accounts []mail.Account
	after := ""
	for {
		var list userList
		if err := c.get(ctx, "/v1/users", inPage(make(url.Values), Page{After: after}), &list); err != nil {
			return nil, err
		}
		for _, u := range list.Users {
			accounts = append(accounts, mail.Account(u))
		}
		if after = list.Next; after == "" {
			return accounts, nil
		}
	}
}

// Domains lists the domains of the configuration in force.
func (c *Client) Domains(ctx context.Context) ([]Domain, error) {
	var list domainList
	err := c.get(ctx, "/v1/domains", nil, &list)
	return list.Domains, err
}

// Reload swaps in the configuration file as it is now.
func (c *Client) Reload(ctx context.Context) (*Report, error) {
	report := new(Report)
	refused, err := c.ask(ctx, request{method: http.MethodPost, path: "/v1/reload"}, report)
	if err != nil {
		return refused, err
	}
	return report, nil
}

// Status tells what runs.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	s := new(Status)
	if err := c.get(ctx, "/v1/status", nil, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Audit lists the changes that match, the newest first.
func (c *Client) Audit(ctx context.Context, f ChangeFilter, p Page) ([]AuditEntry, string, error) {
	var list auditList
	err := c.get(ctx, "/v1/audit", inPage(query("actor", f.Actor, "operation", f.Operation, "object", f.Object), p), &list)
	return list.Changes, list.Next, err
}

var _ Operations = (*Client)(nil)
