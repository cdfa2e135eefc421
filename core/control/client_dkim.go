package control

import (
	"context"
	"net/http"
)

// DKIMKeys lists the keys of a domain.
func (c *Client) DKIMKeys(ctx context.Context, domain string) ([]DKIMKey, error) {
	var list dkimKeyList
	err := c.get(ctx, path("v1", "dkim", domain), nil, &list)
	return list.Keys, err
}

// MakeDKIMKeys makes keys that the server manages.
func (c *Client) MakeDKIMKeys(ctx context.Context, domain string, n NewDKIMKeys) (*DKIMStep, error) {
	return c.dkimStep(ctx, path("v1", "dkim", domain, "keys"), newDKIMKeys(n))
}

// RotateDKIM does the next safe step of replacing keys.
func (c *Client) RotateDKIM(ctx context.Context, domain string, force bool) (*DKIMStep, error) {
	return c.dkimStep(ctx, path("v1", "dkim", domain, "rotate"), dkimRotation{force})
}

func (c *Client) dkimStep(ctx context.Context, path string, body any) (*DKIMStep, error) {
	step := new(DKIMStep)
	if err := c.do(ctx, http.MethodPost, path, body, step); err != nil {
		return nil, err
	}
	return step, nil
}

// CheckDKIM asks the DNS for every key of a domain.
func (c *Client) CheckDKIM(ctx context.Context, domain string) (*DKIMReport, error) {
	r := new(DKIMReport)
	if err := c.get(ctx, path("v1", "dkim", domain, "check"), nil, r); err != nil {
		return nil, err
	}
	return r, nil
}
