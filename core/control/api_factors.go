package control

import (
	"context"
	"net/http"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// newAppPassword is the body of a request for an app password.
type newAppPassword struct {
	Name    string    `json:"name" maxLength:"200" doc:"What the user calls the program." example:"phone"`
	Scopes  []string  `json:"scopes,omitempty" maxItems:"10" doc:"The protocols that it is good for: smtp, imap. All of them without it."`
	Expires time.Time `json:"expires,omitzero" doc:"When it ends; never without it."`
}

// madeAppPassword is an app password with the password itself.
type madeAppPassword struct {
	AppPassword
	Password string `json:"password" doc:"The password. It is shown this once."`
}

type appPasswordList struct {
	AppPasswords []AppPassword `json:"app_passwords"`
}

// enrolment is what a user needs for a second factor.
type enrolment struct {
	Account       string   `json:"account"`
	Secret        string   `json:"secret" doc:"The key in base32. It is shown this once."`
	URI           string   `json:"uri" doc:"The same for authenticators: otpauth://totp/…"`
	RecoveryCodes []string `json:"recovery_codes" doc:"Each is good for one login in place of a code."`
}

type newCode struct {
	Code string `json:"code" maxLength:"64" doc:"The six digits that the authenticator shows." example:"123456"`
}

type appendCode struct {
	On bool `json:"on"`
}

type verified struct {
	OK bool `json:"ok" doc:"Whether the code was good. It is used up then."`
}

func (a *api) factorRoutes() {
	a.appPasswordRoutes()
	const path = "/v1/users/{address}/totp"
	handle(a, endpoint{id: "get-totp", method: http.MethodGet, path: path, summary: "Tell how an account stands with its second factor", errors: []int{404, 422}}, tagUsers,
		func(ctx context.Context, in *UserParameter) (*answer[SecondFactor], error) {
			return give(a.Operations().SecondFactor(ctx, in.Address))
		})
	handle(a, endpoint{
		id: "enrol-totp", method: http.MethodPost, path: path, summary: "Give an account a second factor", status: http.StatusCreated, errors: []int{404, 409, 422},
		text: "The secret and the recovery codes are shown this once. It is in force once a first code has confirmed it; enrolling again before replaces it.",
	}, tagUsers, func(ctx context.Context, in *UserParameter) (*answer[enrolment], error) {
		e, err := a.Operations().EnrolTOTP(ctx, in.Address)
		shown := enrolment{Account: e.Account, Secret: e.Secret.Reveal(), URI: e.URI.Reveal(), RecoveryCodes: []string{}}
		for _, code := range e.RecoveryCodes {
			shown.RecoveryCodes = append(shown.RecoveryCodes, code.Reveal())
		}
		return give(shown, err)
	})
	type codeOf struct {
		UserParameter
		Body newCode
	}
	handle(a, endpoint{id: "confirm-totp", method: http.MethodPost, path: path + "/confirm", summary: "Put a second factor in force by its first code", status: http.StatusNoContent, errors: []int{404, 422}}, tagUsers,
		func(ctx context.Context, in *codeOf) (*nothing, error) {
			return nil, a.Operations().ConfirmTOTP(ctx, in.Address, mail.Secret(in.Body.Code))
		})
	handle(a, endpoint{id: "verify-totp", method: http.MethodPost, path: path + "/verify", summary: "Try a code or a recovery code", text: "A good one is used up.", errors: []int{404, 422}}, tagUsers,
		func(ctx context.Context, in *codeOf) (*answer[verified], error) {
			ok, err := a.Operations().VerifyTOTP(ctx, in.Address, mail.Secret(in.Body.Code))
			return give(verified{ok}, err)
		})
	handle(a, endpoint{
		id: "set-append-code", method: http.MethodPut, path: path + "/append-code", summary: "Let clients send the code behind the password, or not", errors: []int{404, 422},
	}, tagUsers, func(ctx context.Context, in *struct {
		UserParameter
		Body appendCode
	},
	) (*nothing, error) {
		return nil, a.Operations().SetAppendCode(ctx, in.Address, in.Body.On)
	})
	handle(a, endpoint{id: "remove-totp", method: http.MethodDelete, path: path, summary: "End the second factor of an account", errors: []int{404, 422}}, tagUsers,
		func(ctx context.Context, in *UserParameter) (*nothing, error) {
			return nil, a.Operations().RemoveTOTP(ctx, in.Address)
		})
}

func (a *api) appPasswordRoutes() {
	const path = "/v1/users/{address}/app-passwords"
	handle(a, endpoint{id: "list-app-passwords", method: http.MethodGet, path: path, summary: "List the app passwords of an account", errors: []int{404, 422}}, tagUsers,
		func(ctx context.Context, in *UserParameter) (*answer[appPasswordList], error) {
			list, err := a.Operations().AppPasswords(ctx, in.Address)
			return give(appPasswordList{filled(list)}, err)
		})
	handle(a, endpoint{
		id: "add-app-password", method: http.MethodPost, path: path, summary: "Make a password for a program of a user", status: http.StatusCreated, errors: []int{404, 409, 422},
		text: "The password is shown this once.",
	}, tagUsers, func(ctx context.Context, in *struct {
		UserParameter
		Body newAppPassword
	},
	) (*answer[madeAppPassword], error) {
		password, made, err := a.Operations().AddAppPassword(ctx, AppPassword{Account: in.Address, Name: in.Body.Name, Scopes: in.Body.Scopes, Expires: in.Body.Expires})
		return give(madeAppPassword{AppPassword: made, Password: password.Reveal()}, err)
	})
	handle(a, endpoint{id: "revoke-app-password", method: http.MethodDelete, path: path + "/{id}", summary: "End an app password", errors: []int{404, 422}}, tagUsers,
		func(ctx context.Context, in *struct {
			UserParameter
			ID string `path:"id" maxLength:"200" doc:"The id of the app password."`
		},
		) (*nothing, error) {
			return nil, a.Operations().RevokeAppPassword(ctx, in.Address, in.ID)
		})
}

// filled makes an empty list of none, for JSON.
func filled[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
