package accounts

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mox-like/mox-like/core/mail"
)

// scramIterations is the cost of SCRAM for clients, and for whoever steals the
// database. RFC 7677 section 4 asks for 4096 at least.
const scramIterations = 10_000

const maxScramIterations = 10_000_000

var errScram = errors.New("not a SCRAM-SHA-256 secret as RFC 5803 has it")

// newScramSalt gives what a client is told of a new account: a fresh salt, and
// the iterations. An account keeps them when its password changes, since the keys
// of its app passwords go with them: a client is told them before it says which
// password it has.
func newScramSalt() mail.ScramKeys {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return mail.ScramKeys{Salt: salt, Iterations: scramIterations}
}

// scramKeysOf derives the keys of a password under the salt and the iterations of
// an account (RFC 5802 section 3).
func scramKeysOf(password string, account mail.ScramKeys) (mail.ScramKeys, error) {
	salted, err := pbkdf2.Key(sha256.New, password, account.Salt, account.Iterations, sha256.Size)
	if err != nil {
		return mail.ScramKeys{}, fmt.Errorf("derive SCRAM keys: %w", err)
	}
	clientKey := mac(salted, "Client Key")
	storedKey := sha256.Sum256(clientKey)
	return mail.ScramKeys{
		Salt:       account.Salt,
		Iterations: account.Iterations,
		StoredKey:  storedKey[:],
		ServerKey:  mac(salted, "Server Key"),
	}, nil
}

// fakeScramKeys gives an unknown user keys that stay the same as long as the
// database lives, so that nobody can tell unknown users by asking twice. No
// proof fits them, since nobody knows what the stored key would be the hash of.
func fakeScramKeys(secret []byte, user string) mail.ScramKeys {
	random := mac(secret, user)
	return mail.ScramKeys{Salt: random[:saltSize], Iterations: scramIterations, StoredKey: random, ServerKey: random}
}

func mac(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for i, part := range parts {
		if i > 0 {
			h.Write([]byte{0})
		}
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// encodeScram gives scheme$iterations:salt$StoredKey:ServerKey (RFC 5803 section
// 3).
func encodeScram(k mail.ScramKeys) string {
	b64 := base64.StdEncoding
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", k.Iterations,
		b64.EncodeToString(k.Salt), b64.EncodeToString(k.StoredKey), b64.EncodeToString(k.ServerKey))
}

// decodeScram reads what encodeScram writes.
func decodeScram(encoded string) (mail.ScramKeys, error) {
	scheme, rest, _ := strings.Cut(encoded, "$")
	info, keys, ok := strings.Cut(rest, "$")
	if !ok || scheme != "SCRAM-SHA-256" {
		return mail.ScramKeys{}, errScram
	}
	iterations, salt, _ := strings.Cut(info, ":")
	stored, server, _ := strings.Cut(keys, ":")
	var k mail.ScramKeys
	var errs [4]error
	k.Iterations, errs[0] = strconv.Atoi(iterations)
	k.Salt, errs[1] = base64.StdEncoding.Strict().DecodeString(salt)
	k.StoredKey, errs[2] = base64.StdEncoding.Strict().DecodeString(stored)
	k.ServerKey, errs[3] = base64.StdEncoding.Strict().DecodeString(server)
	if errors.Join(errs[:]...) != nil || k.Iterations < 4096 || k.Iterations > maxScramIterations ||
		len(k.Salt) < 8 || len(k.StoredKey) != sha256.Size || len(k.ServerKey) != sha256.Size {
		return mail.ScramKeys{}, errScram
	}
	return k, nil
}
