package control

import (
	"context"
	"io"
	"net/http"
	"time"
)

// Held lists the held messages that match.
func (c *Client) Held(ctx context.Context, f HeldFilter, p Page) ([]Held, string, error) {
	q := query("user", f.User, "domain", f.Domain, "from", f.From)
	if !f.Since.IsZero() {
		q.Set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	var list heldList
	err := c.get(ctx, "/v1/quarantine", inPage(q, p), &list)
	return list.Messages, list.Next, err
}

// HeldMessage gives one message with its header section.
func (c *Client) HeldMessage(ctx context.Context, id string) (m HeldMessage, err error) {
	err = c.get(ctx, path("v1", "quarantine", id), nil, &m)
	return m, err
}

// HeldContent gives the whole message.
func (c *Client) HeldContent(ctx context.Context, id string) (content io.ReadCloser, size int64, err error) {
	response, _, err := c.send(ctx, request{method: http.MethodGet, path: path("v1", "quarantine", id, "content")})
	if err != nil {
		return nil, 0, err
	}
	return response.Body, response.ContentLength, nil
}

// ReleaseHeld delivers a message after all.
func (c *Client) ReleaseHeld(ctx context.Context, id, user string) ([]string, error) {
	var done heldAccounts
	err := c.do(ctx, http.MethodPost, path("v1", "quarantine", id, "release"), heldUser{user}, &done)
	return done.Accounts, err
}

// AllowHeld releases a message and remembers its author.
func (c *Client) AllowHeld(ctx context.Context, a AllowAuthor) (done AllowedHeld, err error) {
	err = c.do(ctx, http.MethodPost, path("v1", "quarantine", a.ID, "allow"), newAllowedAuthor{a.User, a.Scope, a.Sender}, &done)
	return done, err
}

// DeleteHeld forgets a message.
func (c *Client) DeleteHeld(ctx context.Context, id, user string) ([]string, error) {
	var done heldAccounts
	_, err := c.ask(ctx, request{method: http.MethodDelete, path: path("v1", "quarantine", id), query: query("user", user)}, &done)
	return done.Accounts, err
}

// AllowedAuthors lists who was allowed.
func (c *Client) AllowedAuthors(ctx context.Context, p Page) ([]AllowedAuthor, string, error) {
	var list allowedAuthorList
	err := c.get(ctx, allowedAuthorsPath, inPage(query(), p), &list)
	return list.Allowed, list.Next, err
}

// DisallowAuthor takes one back.
func (c *Client) DisallowAuthor(ctx context.Context, scope, sender string) error {
	_, err := c.ask(ctx, request{method: http.MethodDelete, path: allowedAuthorsPath, query: query("scope", scope, "sender", sender)}, nil)
	return err
}
