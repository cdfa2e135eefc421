package control

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"
)

const (
	tagQuarantine      = "quarantine"
	allowedAuthorsPath = "/v1/quarantine/allowed"
)

type heldList struct {
	Messages []Held `json:"messages"`
	Next     string `json:"next,omitempty"`
}

type heldAccounts struct {
	Accounts []string `json:"accounts" doc:"Those for which it was done."`
}

type heldUser struct {
	User string `json:"user,omitempty" maxLength:"320" doc:"Only for this account; without it for all that the message is held for."`
}

type newAllowedAuthor struct {
	User   string `json:"user,omitempty" maxLength:"320" doc:"Only for this account; without it for all that the message is held for."`
	Scope  string `json:"scope,omitempty" enum:"user,domain,all" doc:"For whom the author is allowed: these accounts, their domains, or everybody; user without it."`
	Sender string `json:"sender,omitempty" maxLength:"320" doc:"An address, or a domain with its subdomains; the author of the message without it."`
}

type allowedAuthorList struct {
	Allowed []AllowedAuthor `json:"allowed"`
	Next    string          `json:"next,omitempty"`
}

// HeldParameter is that of one message, see PageParameters.
type HeldParameter struct {
	ID string `path:"id" maxLength:"255" doc:"The id of the message, which is that of its trace."`
}

func (a *api) quarantineRoutes() {
	handle(a, endpoint{id: "list-held", method: http.MethodGet, path: "/v1/quarantine", summary: "List the messages in quarantine", text: "The newest first. A page may have few messages, or none, and not be the last one: that one has no next.", errors: []int{404, 422}}, tagQuarantine,
		func(ctx context.Context, in *struct {
			User   string    `query:"user" maxLength:"320" doc:"Only what is held for this account."`
			Domain string    `query:"domain" maxLength:"255" doc:"Only what is held for accounts of this domain."`
			From   string    `query:"from" maxLength:"320" doc:"A part of the author, or of the reverse-path."`
			Since  time.Time `query:"since" doc:"Only what came since."`
			PageParameters
		},
		) (*answer[heldList], error) {
			list, next, err := a.Operations().Held(ctx, HeldFilter{User: in.User, Domain: in.Domain, From: in.From, Since: in.Since}, in.page())
			return give(heldList{filled(list), next}, err)
		})
	handle(a, endpoint{id: "get-held", method: http.MethodGet, path: "/v1/quarantine/{id}", summary: "Show a message in quarantine with its header section", full: true, errors: []int{404}}, tagQuarantine,
		func(ctx context.Context, in *HeldParameter) (*answer[HeldMessage], error) {
			return give(a.Operations().HeldMessage(ctx, in.ID))
		})
	handle(a, endpoint{
		id: "get-held-content", method: http.MethodGet, path: "/v1/quarantine/{id}/content", summary: "Give the whole of a message in quarantine", full: true, errors: []int{404},
		answer: &huma.Response{Description: "The message.", Content: map[string]*huma.MediaType{"message/rfc822": {Schema: &huma.Schema{Type: huma.TypeString}}}},
	}, tagQuarantine, a.heldContent)
	const accounts = "For all accounts that it is held for, unless one is named."
	handle(a, endpoint{id: "release-held", method: http.MethodPost, path: "/v1/quarantine/{id}/release", summary: "Deliver a message from quarantine to INBOX", text: accounts, errors: []int{404, 422}}, tagQuarantine,
		func(ctx context.Context, in *struct {
			HeldParameter
			Body heldUser
		},
		) (*answer[heldAccounts], error) {
			list, err := a.Operations().ReleaseHeld(ctx, in.ID, in.Body.User)
			return give(heldAccounts{filled(list)}, err)
		})
	handle(a, endpoint{id: "allow-held", method: http.MethodPost, path: "/v1/quarantine/{id}/allow", summary: "Deliver a message from quarantine, and hold its author's next ones no more", text: accounts, errors: []int{404, 422}}, tagQuarantine,
		func(ctx context.Context, in *struct {
			HeldParameter
			Body newAllowedAuthor
		},
		) (*answer[AllowedHeld], error) {
			return give(a.Operations().AllowHeld(ctx, AllowAuthor{ID: in.ID, User: in.Body.User, Scope: in.Body.Scope, Sender: in.Body.Sender}))
		})
	handle(a, endpoint{id: "delete-held", method: http.MethodDelete, path: "/v1/quarantine/{id}", summary: "Delete a message from quarantine", text: accounts, status: http.StatusOK, errors: []int{404, 422}}, tagQuarantine,
		func(ctx context.Context, in *struct {
			HeldParameter
			User string `query:"user" maxLength:"320" doc:"Only for this account."`
		},
		) (*answer[heldAccounts], error) {
			list, err := a.Operations().DeleteHeld(ctx, in.ID, in.User)
			return give(heldAccounts{filled(list)}, err)
		})
	a.allowedAuthorRoutes()
}

func (a *api) allowedAuthorRoutes() {
	handle(a, endpoint{id: "list-allowed-authors", method: http.MethodGet, path: allowedAuthorsPath, summary: "List the authors whose messages are not held", errors: []int{422}}, tagQuarantine,
		func(ctx context.Context, in *struct{ PageParameters }) (*answer[allowedAuthorList], error) {
			list, next, err := a.Operations().AllowedAuthors(ctx, in.page())
			return give(allowedAuthorList{filled(list), next}, err)
		})
	handle(a, endpoint{id: "disallow-author", method: http.MethodDelete, path: allowedAuthorsPath, summary: "Hold an author's messages like others again", status: http.StatusNoContent, errors: []int{404, 422}}, tagQuarantine,
		func(ctx context.Context, in *struct {
			Scope  string `query:"scope" required:"true" maxLength:"320" doc:"For whom, as the list has it: an account, a domain, or all."`
			Sender string `query:"sender" required:"true" maxLength:"320" doc:"The address or the domain."`
		},
		) (*nothing, error) {
			return nil, a.Operations().DisallowAuthor(ctx, in.Scope, in.Sender)
		})
}

// heldContent streams a message.
func (a *api) heldContent(ctx context.Context, in *HeldParameter) (*huma.StreamResponse, error) {
	content, size, err := a.Operations().HeldContent(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		defer func() { _ = content.Close() }()
		c.SetHeader("Content-Type", "message/rfc822")
		c.SetHeader("Content-Length", strconv.FormatInt(size, 10)) // so that what is cut off cannot be taken for the whole
		if _, err := io.Copy(c.BodyWriter(), content); err != nil {
			a.Logger.Info("client left", zap.Error(err))
		}
	}}, nil
}
