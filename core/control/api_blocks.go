package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	tagBlocks  = "blocks"
	importPath = "/v1/blocks/import"
)

// newBlock is the body of a request for a block.
type newBlock struct {
	Network  string    `json:"network" maxLength:"64" doc:"An address or a network." example:"192.0.2.0/24"`
	Source   string    `json:"source,omitempty" maxLength:"64" doc:"Who blocks it; admin without it."`
	Reason   string    `json:"reason,omitempty" maxLength:"1000" doc:"Why, for people."`
	Evidence string    `json:"evidence,omitempty" maxLength:"1000" doc:"What was seen, for people."`
	Expires  time.Time `json:"expires,omitzero" doc:"When it ends; never without it."`
}

type blockList struct {
	Blocks []Block `json:"blocks"`
	Next   string  `json:"next,omitempty"`
}

type removedBlocks struct {
	Removed int `json:"removed" doc:"How many blocks the network had, from all sources."`
}

type imported struct {
	Added int `json:"added" doc:"How many networks the list has."`
}

type lockList struct {
	Locks []Lock `json:"locks"`
	Next  string `json:"next,omitempty"`
}

func (a *api) blockRoutes() {
	handle(a, endpoint{id: "list-blocks", method: http.MethodGet, path: "/v1/blocks", summary: "List the blocked networks", text: "By network.", errors: []int{422}}, tagBlocks,
		func(ctx context.Context, in *struct{ PageParameters }) (*answer[blockList], error) {
			list, next, err := a.Operations().Blocks(ctx, in.page())
			return give(blockList{filled(list), next}, err)
		})
	handle(a, endpoint{id: "add-block", method: http.MethodPost, path: "/v1/blocks", summary: "Block a network", text: "It replaces the block that the network has from the same source.", status: http.StatusNoContent, errors: []int{422}}, tagBlocks,
		func(ctx context.Context, in *struct{ Body newBlock }) (*nothing, error) {
			network, err := parseNetwork(in.Body.Network)
			if err != nil {
				return nil, err
			}
			return nil, a.Operations().AddBlock(ctx, Block{Network: network, Source: in.Body.Source, Reason: in.Body.Reason, Evidence: in.Body.Evidence, Expires: in.Body.Expires})
		})
	handle(a, endpoint{
		id: "remove-block", method: http.MethodDelete, path: "/v1/blocks/{network}", summary: "End the blocks of a network",
		text: "Of exactly this network, from all sources. A / in the path is written as %2F.", errors: []int{404, 422},
	}, tagBlocks, func(ctx context.Context, in *struct {
		Network string `path:"network" maxLength:"64" example:"192.0.2.0%2F24" doc:"An address or a network."`
	},
	) (*answer[removedBlocks], error) {
		network, err := parseNetwork(in.Network)
		if err != nil {
			return nil, err
		}
		removed, err := a.Operations().RemoveBlock(ctx, network)
		return give(removedBlocks{removed}, err)
	})
	handle(a, endpoint{id: "why-blocked", method: http.MethodGet, path: "/v1/blocks/why", summary: "Tell why an address is blocked", text: "The blocks that cover it, the most specific first; none if it is not blocked.", errors: []int{422}}, tagBlocks,
		func(ctx context.Context, in *struct {
			Address string `query:"address" required:"true" maxLength:"64" example:"192.0.2.7"`
		},
		) (*answer[blockList], error) {
			address, err := netip.ParseAddr(in.Address)
			if err != nil {
				return nil, Invalid(fmt.Errorf("find block: %q is no IP address", in.Address))
			}
			list, err := a.Operations().WhyBlocked(ctx, address)
			return give(blockList{Blocks: filled(list)}, err)
		})
	handle(a, endpoint{
		id: "import-blocks", method: http.MethodPost, path: importPath, summary: "Replace the blocks of a source by a list", errors: []int{413, 422},
		text: "The body is the list: a network a line, with comments behind # or ;. If a line is wrong, nothing changes.",
		body: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}},
	}, tagBlocks, func(ctx context.Context, in *importInput) (*answer[imported], error) {
		added, err := a.Operations().ImportBlocks(ctx, in.Source, in.list, in.Expires)
		return give(imported{added}, err)
	})
	a.lockRoutes()
}

func (a *api) lockRoutes() {
	handle(a, endpoint{id: "list-locks", method: http.MethodGet, path: "/v1/locks", summary: "List the accounts that are closed to unknown networks", text: "By account.", errors: []int{422}}, tagBlocks,
		func(ctx context.Context, in *struct{ PageParameters }) (*answer[lockList], error) {
			list, next, err := a.Operations().Locks(ctx, in.page())
			return give(lockList{filled(list), next}, err)
		})
	handle(a, endpoint{id: "unlock-account", method: http.MethodDelete, path: "/v1/locks/{account}", summary: "Open an account to all networks", errors: []int{404, 422}}, tagBlocks,
		func(ctx context.Context, in *struct {
			Account string `path:"account" maxLength:"320"`
		},
		) (*nothing, error) {
			return nil, a.Operations().Unlock(ctx, in.Account)
		})
}

// parseNetwork reads an address or a network.
func parseNetwork(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p, nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil || address.Zone() != "" {
		return netip.Prefix{}, Invalid(fmt.Errorf("%q is no address and no network; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32", text))
	}
	return netip.PrefixFrom(address, address.BitLen()), nil
}

// importInput is a request with a list that is read as it comes.
type importInput struct {
	Source  string    `query:"source" required:"true" maxLength:"64" doc:"Whose list it is; it replaces what the source had before." example:"import"`
	Expires time.Time `query:"expires" doc:"When the blocks end; never without it."`
	list    io.Reader
}

// Resolve takes the body, which huma leaves alone.
func (i *importInput) Resolve(ctx huma.Context) []error {
	r, w := humago.Unwrap(ctx)
	i.list = &steady{
		from:    http.MaxBytesReader(w, r.Body, maxImport),
		control: http.NewResponseController(w),
		until:   time.Now().Add(importTimeout),
	}
	return nil
}

// steady reads a body from a client that must never pause for long.
type steady struct {
	from    io.Reader
	control *http.ResponseController
	until   time.Time
}

func (s *steady) Read(b []byte) (int, error) {
	limit := time.Now().Add(stallTimeout)
	if limit.After(s.until) {
		limit = s.until
	}
	if err := s.control.SetReadDeadline(limit); err != nil {
		return 0, fmt.Errorf("bound reading: %w", err)
	}
	n, err := s.from.Read(b)
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &kindError{kind: context.DeadlineExceeded, err: fmt.Errorf("the list came too slowly: nothing for %s, or not all of it within %s", stallTimeout, importTimeout)}
	case tooLarge:
		err = &kindError{kind: errTooLarge, err: fmt.Errorf("the list has more than %d bytes: import it in parts with sources of their own", int64(maxImport))}
	}
	return n, err
}
