package control

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

const tagUsers = "users"

// newUser is the body of a request for an account.
type newUser struct {
	Address  string `json:"address" maxLength:"320" doc:"The account's name, and the address of its mail." example:"alice@example.org"`
	Password string `json:"password" maxLength:"1024"`
}

// newPassword is the body of a request for another password.
type newPassword struct {
	Password string `json:"password" maxLength:"1024"`
}

// userJSON is an account in an answer.
type userJSON struct {
	Address string    `json:"address"`
	Created time.Time `json:"created"`
}

type userList struct {
	Users []userJSON `json:"users"`
	Next  string     `json:"next,omitempty"`
}

// UserParameter is that of what belongs to an account, see PageParameters.
type UserParameter struct {
	Address string `path:"address" maxLength:"320" doc:"The account's address."`
}

func (a *api) userRoutes() {
	handle(a, endpoint{id: "list-users", method: http.MethodGet, path: "/v1/users", summary: "List the accounts", text: "By address."}, tagUsers,
		func(ctx context.Context, in *struct{ PageParameters }) (*answer[userList], error) {
			list, err := a.Operations().Users(ctx)
			return give(userPage(list, in.page()), err)
		})
	handle(a, endpoint{id: "add-user", method: http.MethodPost, path: "/v1/users", summary: "Add an account", status: http.StatusNoContent, errors: []int{409, 422}}, tagUsers,
		func(ctx context.Context, in *struct{ Body newUser }) (*nothing, error) {
			return nil, a.Operations().AddUser(ctx, in.Body.Address, mail.Secret(in.Body.Password))
		})
	handle(a, endpoint{id: "set-password", method: http.MethodPut, path: "/v1/users/{address}/password", summary: "Change the password of an account", errors: []int{404, 422}}, tagUsers,
		func(ctx context.Context, in *struct {
			UserParameter
			Body newPassword
		},
		) (*nothing, error) {
			return nil, a.Operations().SetPassword(ctx, in.Address, mail.Secret(in.Body.Password))
		})
	handle(a, endpoint{id: "remove-user", method: http.MethodDelete, path: "/v1/users/{address}", summary: "Remove an account and all its mail", text: "There is no way back.", errors: []int{404, 422}}, tagUsers,
		func(ctx context.Context, in *UserParameter) (*nothing, error) {
			return nil, a.Operations().RemoveUser(ctx, in.Address)
		})
}

// userPage cuts a page out of all accounts, which are in order.
func userPage(all []mail.Account, p Page) userList {
	first, found := slices.BinarySearchFunc(all, p.After, func(a mail.Account, after string) int { return strings.Compare(a.Address, after) })
	if found {
		first++
	}
	limit, err := p.limit()
	if err != nil {
		limit = MaxPage
	}
	rest := all[first:]
	page := userList{Users: make([]userJSON, 0, min(limit, len(rest)))}
	for _, u := range rest[:min(limit, len(rest))] {
		page.Users = append(page.Users, userJSON(u))
	}
	if len(rest) > limit {
		page.Next = rest[limit-1].Address
	}
	return page
}
