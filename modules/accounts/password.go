package accounts

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
)

const (
	// minPassword is in characters; NIST SP 800-63B asks for 8.
	minPassword = 8
	// maxPassword is in bytes. It is checked before any hashing.
	maxPassword = 1024
)

var (
	// ErrPasswordShort is returned for a new password under 8 characters.
	ErrPasswordShort = control.Invalid(errors.New("the password is too short: choose one of at least 8 characters"))
	// ErrPasswordLong is returned for a new password over 1024 bytes.
	ErrPasswordLong = control.Invalid(errors.New("the password is too long: choose one of at most 1024 bytes"))
	// ErrPasswordText is returned for a new password that mail clients could not
	// send.
	ErrPasswordText = control.Invalid(errors.New("the password has a NUL or is not UTF-8: choose one that can be typed"))
)

// CheckPassword tells whether an account can have that password.
func CheckPassword(password mail.Secret) error {
	plain := password.Reveal()
	switch {
	case len(plain) > maxPassword:
		return ErrPasswordLong
	case !utf8.ValidString(plain) || strings.IndexByte(plain, 0) >= 0:
		return ErrPasswordText
	case utf8.RuneCountInString(prepare(plain)) < minPassword:
		return ErrPasswordShort
	default:
		return nil
	}
}

// prepare gives the form of a password that is hashed: SASLprep's (RFC 4013), so
// that it is the same on every keyboard. What SASLprep refuses, such as
// characters that came after Unicode 3.2, is taken as it is.
func prepare(password string) string {
	if isPrintableASCII(password) {
		return password
	}
	prepared, err := stringprep.SASLprep.Prepare(password)
	if err != nil {
		return password
	}
	return prepared
}

func isPrintableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// protected is a password as the database keeps it.
type protected struct {
	password string // argon2id, see hasher
	scram    string // see encodeScram
}

// protect checks a new password and derives what is kept of it, with the SCRAM
// salt and iterations of its account.
func (a *Accounts) protect(ctx context.Context, password mail.Secret, account mail.ScramKeys) (protected, error) {
	if err := CheckPassword(password); err != nil {
		return protected{}, err
	}
	return a.derive(ctx, netip.Prefix{}, prepare(password.Reveal()), account)
}

// derive computes what is kept of a prepared password.
func (a *Accounts) derive(ctx context.Context, from netip.Prefix, prepared string, account mail.ScramKeys) (protected, error) {
	hash, err := a.hasher.hash(ctx, from, prepared)
	if err != nil {
		return protected{}, err
	}
	keys, err := scramKeysOf(prepared, account)
	if err != nil {
		return protected{}, err
	}
	return protected{password: hash, scram: encodeScram(keys)}, nil
}
