package totp

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/mox-like/mox-like/core/mail"
)

// What authenticator apps take for granted (RFC 6238 section 4, RFC 4226 section
// 5.3).
const (
	digits     = 6
	period     = 30 // seconds
	secretSize = 20 // bytes
)

// A recovery code is 16 characters of 5 random bits in groups of four, such as
// k7rw-e3ph-q4ms-v8yz. No six digits can be taken for the end of one, which has a
// hyphen there, so that either can stand behind a password.
const (
	recoveryCodes    = 10
	recoveryChars    = 16
	recoveryGroup    = 4
	recoverySize     = recoveryChars + recoveryChars/recoveryGroup - 1
	recoveryAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"
)

// stepAt gives the number of the step of a time (RFC 6238 section 4.2).
func stepAt(t time.Time) int64 { return t.Unix() / period }

// match finds the step whose code this is, from drift steps before now to drift
// after it: the first one after last, else one that was used. All steps are
// compared, each in constant time.
func match(secret []byte, code string, now int64, drift int, last int64) (step int64, found, fresh bool, err error) {
	key := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	for s := max(0, now-int64(drift)); s <= now+int64(drift); s++ {
		want, err := hotp.GenerateCodeCustom(key, uint64(s), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return 0, false, false, fmt.Errorf("compute code: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && !fresh {
			step, found, fresh = s, true, s > last
		}
	}
	return step, found, fresh, nil
}

// isCode tells whether s is six digits.
func isCode(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) == digits
}

// newRecoveryCodes makes a set of codes.
func newRecoveryCodes() []mail.Secret {
	codes := make([]mail.Secret, recoveryCodes)
	for i := range codes {
		random := make([]byte, recoveryChars)
		rand.Read(random)
		var b strings.Builder
		for j, r := range random {
			if j > 0 && j%recoveryGroup == 0 {
				b.WriteByte('-')
			}
			b.WriteByte(recoveryAlphabet[r%byte(len(recoveryAlphabet))])
		}
		codes[i] = mail.Secret(b.String())
	}
	return codes
}

// recoveryHash gives what is kept of a recovery code. Spaces, hyphens and case do
// not matter. ok tells whether it has the form of one.
func recoveryHash(code string) (hash []byte, ok bool) {
	bare := strings.NewReplacer("-", "", " ", "").Replace(strings.ToLower(code))
	if len(bare) != recoveryChars {
		return nil, false
	}
	for i := range len(bare) {
		if strings.IndexByte(recoveryAlphabet, bare[i]) < 0 {
			return nil, false
		}
	}
	sum := sha256.Sum256([]byte(bare))
	return sum[:], true
}

// SplitCode takes the code off the end of a password: a recovery code with its
// hyphens, or six digits. The code is "" if there is none.
func (*Service) SplitCode(password mail.Secret) (rest, code mail.Secret) {
	plain := password.Reveal()
	if at := len(plain) - recoverySize; at >= 0 && isGrouped(plain[at:]) {
		return password[:at], password[at:]
	}
	if at := len(plain) - digits; at >= 0 && isCode(plain[at:]) {
		return password[:at], password[at:]
	}
	return password, ""
}

// isGrouped tells whether s is a recovery code as it is shown, in either case.
func isGrouped(s string) bool {
	for i := range len(s) {
		if hyphen := i%(recoveryGroup+1) == recoveryGroup; hyphen != (s[i] == '-') {
			return false
		}
	}
	_, ok := recoveryHash(s)
	return ok && len(s) == recoverySize
}
