package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

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
	turns *turns
	// rest is how long a turn rests after a login, in times of what its hash took.
	rest float64
	// dummy is nobody's hash, which unknown users' passwords are compared with.
	dummy string
}

// maxWaste is the share of all processors that those can have who try wrong
// passwords, as a fraction of one.
const maxWaste = 0.1

// newHasher gives a hasher for a machine of so many processors. At most half of
// them hash at a time. After a password was compared a turn rests, so that guessing
// takes no more than maxWaste of the machine from the mail, however many guess.
// The rest ends early once the login is accepted, see comparison.
func newHasher(c costs, processors int) *hasher {
	slots := max(1, processors/2)
	h := &hasher{costs: c, turns: newTurns(slots), rest: max(0, float64(slots)/(maxWaste*float64(processors))-1)}
	salt, key := make([]byte, saltSize), make([]byte, keySize)
	rand.Read(salt)
	rand.Read(key)
	h.dummy = encodeHash(c, salt, key)
	return h
}

// take waits for a turn until ctx ends.
func (h *hasher) take(ctx context.Context, from netip.Prefix) error {
	if err := h.turns.take(ctx, from); err != nil {
		return fmt.Errorf("wait for password hash: %w", err)
	}
	return nil
}

// hash gives the PHC string of a password under a fresh salt. from is the network
// that has the turn, the zero one for the operator.
func (h *hasher) hash(ctx context.Context, from netip.Prefix, password string) (string, error) {
	if err := h.take(ctx, from); err != nil {
		return "", err
	}
	defer h.turns.give()
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return encodeHash(h.costs, salt, h.costs.key(password, salt, keySize)), nil
}

// comparison is what came of comparing a password with a hash.
type comparison struct {
	ok bool
	// outdated tells that the hash has other costs than new ones get.
	outdated bool
	// release ends the turn before it has rested. It is for logins that were
	// accepted: until then a right password must not be told from a wrong one, not
	// even by when the next turn is free, since a later handler may refuse it.
	release func()
}

// verify compares a password with a PHC string.
func (h *hasher) verify(ctx context.Context, from netip.Prefix, encoded, password string) (comparison, error) {
	c, salt, want, err := decodeHash(encoded)
	if err != nil {
		return comparison{}, err
	}
	if err := h.take(ctx, from); err != nil {
		return comparison{}, err
	}
	began := time.Now()
	got := c.key(password, salt, uint32(len(want)))
	h.turns.suspect(from)
	release := h.turns.giveAfter(time.Duration(h.rest * float64(time.Since(began))))
	return comparison{ok: subtle.ConstantTimeCompare(got, want) == 1, outdated: c != h.costs, release: release}, nil
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
