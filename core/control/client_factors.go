package control

import (
	"context"
	"net/http"

	"github.com/mox-like/mox-like/core/mail"
)

// AddAppPassword makes a password for a program of a user.
func (c *Client) AddAppPassword(ctx context.Context, p AppPassword) (mail.Secret, AppPassword, error) {
	var made madeAppPassword
	err := c.do(ctx, http.MethodPost, path("v1", "users", p.Account, "app-passwords"), newAppPassword{p.Name, p.Scopes, p.Expires}, &made)
	return mail.Secret(made.Password), made.AppPassword, err
}

// AppPasswords lists those of an account.
func (c *Client) AppPasswords(ctx context.Context, address string) ([]AppPassword, error) {
	var list appPasswordList
	err := c.get(ctx, path("v1", "users", address, "app-passwords"), nil, &list)
	return list.AppPasswords, err
}

// RevokeAppPassword ends one.
func (c *Client) RevokeAppPassword(ctx context.Context, address, id string) error {
	return c.do(ctx, http.MethodDelete, path("v1", "users", address, "app-passwords", id), nil, nil)
}

// EnrolTOTP gives an account a secret.
func (c *Client) EnrolTOTP(ctx context.Context, address string) (Enrolment, error) {
	var e enrolment
	if err := c.do(ctx, http.MethodPost, path("v1", "users", address, "totp"), nil, &e); err != nil {
		return Enrolment{}, err
	}
	shown := Enrolment{Account: e.Account, Secret: mail.Secret(e.Secret), URI: mail.Secret(e.URI)}
	for _, code := range e.RecoveryCodes {
		shown.RecoveryCodes = append(shown.RecoveryCodes, mail.Secret(code))
	}
	return shown, nil
}

// ConfirmTOTP puts the secret in force.
func (c *Client) ConfirmTOTP(ctx context.Context, address string, code mail.Secret) error {
	return c.do(ctx, http.MethodPost, path("v1", "users", address, "totp", "confirm"), newCode{code.Reveal()}, nil)
}

// RemoveTOTP ends the second factor.
func (c *Client) RemoveTOTP(ctx context.Context, address string) error {
	return c.do(ctx, http.MethodDelete, path("v1", "users", address, "totp"), nil, nil)
}

// SecondFactor tells how an account stands.
func (c *Client) SecondFactor(ctx context.Context, address string) (SecondFactor, error) {
	var f SecondFactor
	err := c.get(ctx, path("v1", "users", address, "totp"), nil, &f)
	return f, err
}

// SetAppendCode lets clients send the code behind the password.
func (c *Client) SetAppendCode(ctx context.Context, address string, on bool) error {
	return c.do(ctx, http.MethodPut, path("v1", "users", address, "totp", "append-code"), appendCode{on}, nil)
}

// VerifyTOTP tries a code.
func (c *Client) VerifyTOTP(ctx context.Context, address string, code mail.Secret) (bool, error) {
	var v verified
	err := c.do(ctx, http.MethodPost, path("v1", "users", address, "totp", "verify"), newCode{code.Reveal()}, &v)
	return v.OK, err
}
