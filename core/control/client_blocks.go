package control

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// AddBlock blocks a network.
func (c *Client) AddBlock(ctx context.Context, b Block) error {
	n := newBlock{Source: b.Source, Reason: b.Reason, Evidence: b.Evidence, Expires: b.Expires}
	if b.Network.IsValid() {
		n.Network = b.Network.String()
	}
	return c.do(ctx, http.MethodPost, "/v1/blocks", n, nil)
}

// RemoveBlock ends the blocks of a network.
func (c *Client) RemoveBlock(ctx context.Context, network netip.Prefix) (removed int, err error) {
	var r removedBlocks
	err = c.do(ctx, http.MethodDelete, path("v1", "blocks", network.String()), nil, &r)
	return r.Removed, err
}

// Blocks lists them by network.
func (c *Client) Blocks(ctx context.Context, p Page) ([]Block, string, error) {
	var list blockList
	err := c.get(ctx, "/v1/blocks", inPage(query(), p), &list)
	return list.Blocks, list.Next, err
}

// WhyBlocked gives the blocks that cover an address.
func (c *Client) WhyBlocked(ctx context.Context, address netip.Addr) ([]Block, error) {
	var list blockList
	err := c.get(ctx, "/v1/blocks/why", query("address", address.String()), &list)
	return list.Blocks, err
}

// ImportBlocks replaces the blocks of a source.
func (c *Client) ImportBlocks(ctx context.Context, source string, list io.Reader, expires time.Time) (added int, err error) {
	var i imported
	q := query("source", source)
	if !expires.IsZero() {
		q.Set("expires", expires.UTC().Format(time.RFC3339Nano))
	}
	_, err = c.ask(ctx, request{method: http.MethodPost, path: "/v1/blocks/import", query: q, stream: list}, &i)
	return i.Added, err
}

// Locks lists them by account.
func (c *Client) Locks(ctx context.Context, p Page) ([]Lock, string, error) {
	var list lockList
	err := c.get(ctx, "/v1/locks", inPage(query(), p), &list)
	return list.Locks, list.Next, err
}

// Unlock opens an account.
func (c *Client) Unlock(ctx context.Context, account string) error {
	return c.do(ctx, http.MethodDelete, path("v1", "locks", account), nil, nil)
}

// Triplets lists the entries of the greylist.
func (c *Client) Triplets(ctx context.Context, f TripletFilter, p Page) ([]Triplet, string, error) {
	var list tripletList
	q := query("state", f.State, "client", f.Client, "sender", f.Sender, "recipient", f.Recipient)
	err := c.get(ctx, "/v1/greylist", inPage(q, p), &list)
	return list.Triplets, list.Next, err
}

// ReleaseTriplet lets an entry pass.
func (c *Client) ReleaseTriplet(ctx context.Context, id int64) error {
	return c.do(ctx, http.MethodPost, path("v1", "greylist", strconv.FormatInt(id, 10), "release"), nil, nil)
}

// AllowGreylist names a client or sender that is never deferred.
func (c *Client) AllowGreylist(ctx context.Context, a Allowed) error {
	return c.do(ctx, http.MethodPost, "/v1/greylist/allowed", newAllowed{a.Subject, a.Reason}, nil)
}

// DisallowGreylist takes one away.
func (c *Client) DisallowGreylist(ctx context.Context, subject string) error {
	return c.do(ctx, http.MethodDelete, path("v1", "greylist", "allowed", subject), nil, nil)
}

// GreylistAllowed lists them.
func (c *Client) GreylistAllowed(ctx context.Context, p Page) ([]Allowed, string, error) {
	var list allowedList
	err := c.get(ctx, "/v1/greylist/allowed", inPage(query(), p), &list)
	return list.Allowed, list.Next, err
}
