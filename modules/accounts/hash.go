package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// costs are the parameters of argon2id (RFC 9106 section 3.1).
type costs struct {
	memory uint32 // KiB
	passes uint32
	lanes  uint8
}

// owasp are the costs of new hashes, by the OWASP Password Storage Cheat Sheet.
var owasp = costs{memory: 19 << 10, passes: 2, lanes: 1}

// maxCosts bound what a row of the database can make this process spend.
var maxCosts = costs{memory: 1 << 20, passes: 64, lanes: 64}

const (
	saltSize = 16
	keySize  = 32
)

var errHash = errors.New("not an argon2id hash in PHC string format")

// hasher computes argon2id hashes, a bounded number at a time, since each takes
// its memory and a processor for as long as it runs. It is safe for concurrent
// use.
type hasher struct {
	costs costs
	slots chan struct{}
	// dummy is nobody's hash, which unknown users' passwords are compared with.
	dummy string
}

func newHasher(c costs, slots int) *hasher {
	h := &hasher{costs: c, slots: make(chan struct{}, slots)}
	salt, key := make([]byte, saltSize), make([]byte, keySize)
	rand.Read(salt)
	rand.Read(key)
	h.dummy = encodeHash(c, salt, key)
	return h
}

// acquire waits for a slot until ctx ends; release gives it back.
func (h *hasher) acquire(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for password hash: %w", ctx.Err())
	}
}

func (h *hasher) release() { <-h.slots }

// hash gives the PHC string of a password under a fresh salt.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.acquire(ctx); err != nil {
		return "", err
	}
	defer h.release()
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return encodeHash(h.costs, salt, h.costs.key(password, salt, keySize)), nil
}

// verify compares a password with a PHC string. outdated tells that the hash has
// other costs than new ones get.
func (h *hasher) verify(ctx context.Context, encoded, password string) (ok, outdated bool, err error) {
	c, salt, want, err := decodeHash(encoded)
	if err != nil {
		return false, false, err
	}
	if err := h.acquire(ctx); err != nil {
		return false, false, err
	}
	defer h.release()
	got := c.key(password, salt, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, c != h.costs, nil
}

func (c costs) key(password string, salt []byte, size uint32) []byte {
	return argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.lanes, size)
}

func encodeHash(c costs, salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, c.memory, c.passes, c.lanes, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// decodeHash reads what encodeHash writes.
func decodeHash(encoded string) (c costs, salt, key []byte, err error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return costs{}, nil, nil, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.lanes); err != nil {
		return costs{}, nil, nil, errHash
	}
	salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	if err != nil || len(salt) < 8 {
		return costs{}, nil, nil, errHash
	}
	key, err = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err != nil || len(key) < 16 || len(key) > 64 || encodeHash(c, salt, key) != encoded {
		return costs{}, nil, nil, errHash
	}
	if c.passes < 1 || c.lanes < 1 || c.memory > maxCosts.memory || c.passes > maxCosts.passes || c.lanes > maxCosts.lanes {
		return costs{}, nil, nil, errHash
	}
	return c, salt, key, nil
}
