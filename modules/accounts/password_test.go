package accounts

import (
	"errors"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func TestCheckPassword(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	tests := []struct {
		name     string
		password mail.Secret
		want     error
	}{
		{"eight", "12345678", nil},
		{"seven", "1234567", ErrPasswordShort},
		{"empty", "", ErrPasswordShort},
		{"eight characters of two bytes", "пароль12", nil},
		{"seven characters of two bytes", "пароль1", ErrPasswordShort},
		{"seven and a soft hyphen", "1234\u00ad567", ErrPasswordShort},
		{"newer than SASLprep", "1234567🔑", nil},
		{"longest", mail.Secret(strings.Repeat("x", 1024)), nil},
		{"too long", mail.Secret(strings.Repeat("x", 1025)), ErrPasswordLong},
		{"NUL", "12345678\x00", ErrPasswordText},
		{"not UTF-8", "12345678\xff", ErrPasswordText},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := CheckPassword(tt.password); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("CheckPassword = %v, want %v", err, tt.want)
			}
			user := strings.ToLower(strings.ReplaceAll(tt.name, " ", "_")) + "@example.test"
			err := a.Add(t.Context(), user, tt.password)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("Add = %v, want %v", err, tt.want)
			}
			if err != nil && len(tt.password) > 0 && strings.Contains(err.Error(), tt.password.Reveal()) {
				t.Errorf("the error shows the password: %v", err)
			}
			if ok := verify(t, a, user, tt.password); ok != (tt.want == nil) {
				t.Errorf("after Add the password is right: %v", ok)
			}
			if exists(t, a, user) != (tt.want == nil) {
				t.Error("Add and Exists do not agree")
			}
		})
	}
}

func TestSetPasswordRefuses(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, coretest.Options{})
	mustAdd(t, a, alice, goodPassword)
	if err := a.SetPassword(t.Context(), alice, "short"); !errors.Is(err, ErrPasswordShort) {
		t.Errorf("error %v, want %v", err, ErrPasswordShort)
	}
	if !verify(t, a, alice, goodPassword) {
		t.Error("the password has changed")
	}
}
