package accounts

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/store"
)

// An app password is mlx-, 8 characters that name it, a hyphen, and 26 random
// characters of 5 bits each:
//
//	mlx-k7rwe3ph-q4msv8yzc5tdxgna9bfu26jhkp
//
// All of it is in lower case and none of its characters looks like another one.
const (
	appPasswordPrefix = "mlx-"
	appPasswordID     = 8
	appPasswordSecret = 26
	appPasswordSize   = len(appPasswordPrefix) + appPasswordID + 1 + appPasswordSecret

	appPasswordAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"
)

const (
	// maxAppPasswords bounds how many an account has.
	maxAppPasswords = 100
	// maxAppPasswordName is in characters.
	maxAppPasswordName = 64
	// useInterval is how exact the time of the last use is.
	useInterval = time.Minute
	// keepExpired is how long one that has expired is still listed, so that its user
	// sees why a program cannot log in.
	keepExpired = 30 * 24 * time.Hour
)

const appTables = `
	CREATE TABLE app_passwords (
		id        TEXT PRIMARY KEY,
		account   TEXT NOT NULL,
		name      TEXT NOT NULL,
		scopes    TEXT NOT NULL,   -- protocols with commas between them
		sha256    BLOB NOT NULL,   -- of the whole password
		created   BIGINT NOT NULL, -- this and the others: microseconds since 1970
		expires   BIGINT NOT NULL, -- 0: never
		last_used BIGINT NOT NULL, -- 0: never
		last_from TEXT NOT NULL,
		UNIQUE (account, name)
	);
	CREATE INDEX app_passwords_expires ON app_passwords (expires) WHERE expires > 0;
`

// appScram adds what encodeScram gives, "" for app passwords that were made
// before: their secret is not known any more.
const appScram = `ALTER TABLE app_passwords ADD COLUMN scram TEXT NOT NULL DEFAULT ''`

// Errors of AddAppPassword; those about its arguments are control.ErrInvalid too.
var (
	// ErrAppPasswordName is returned for a name that is empty, too long or cannot be
	// printed.
	ErrAppPasswordName = control.Invalid(fmt.Errorf("the name of an app password has 1 to %d printable characters: choose one such as phone", maxAppPasswordName))
	// ErrAppPasswordScope is returned for a scope that is no protocol.
	ErrAppPasswordScope = control.Invalid(errors.New("the scopes of an app password are imap and smtp: choose one of them or both"))
	// ErrAppPasswordExpires is returned for an end that has passed.
	ErrAppPasswordExpires = control.Invalid(errors.New("the app password would have expired already: choose a time to come, or none"))
	// ErrAppPasswordMany is returned when an account has as many as it can have.
	ErrAppPasswordMany = control.Invalid(fmt.Errorf("the account has %d app passwords, which is the most: revoke one that is not used", maxAppPasswords))
	// ErrAppPasswordExists is returned when an app password of the account has that
	// name. It is a store.ErrExists.
	ErrAppPasswordExists = fmt.Errorf("an app password of that name: %w", store.ErrExists)
)

// appPassword is a row of the table.
type appPassword struct {
	control.AppPassword
	sum   []byte
	scram string // see encodeScram; "" if there are no keys
}

// AddAppPassword makes an app password of an account, by Account, Name, Scopes and
// Expires of p. No scopes means all of them. The secret is given here only. Errors
// are ErrNotFound if there is no such account and those above among others.
func (a *Accounts) AddAppPassword(ctx context.Context, p control.AppPassword) (mail.Secret, control.AppPassword, error) {
	fail := func(err error) (mail.Secret, control.AppPassword, error) {
		return "", control.AppPassword{}, fmt.Errorf("add app password of account %q: %w", p.Account, err)
	}
	user, ok := normal(p.Account)
	if !ok || !a.known.has(user) {
		return fail(ErrNotFound)
	}
	now := a.now().Truncate(time.Microsecond)
	if err := checkAppPassword(p, now); err != nil {
		return fail(err)
	}
	id, secret := newAppPassword()
	added := control.AppPassword{ID: id, Account: user, Name: p.Name, Scopes: scopesOf(p.Scopes), Created: now, Expires: p.Expires}
	keys, err := a.appScramKeys(ctx, user, secret)
	if err != nil {
		return fail(err)
	}
	sum := sha256.Sum256([]byte(secret.Reveal()))
	row := appPassword{AppPassword: added, sum: sum[:], scram: encodeScram(keys)}
	if err := a.store.Write(ctx, func(tx *store.Tx) error { return a.insertAppPassword(tx, row) }); err != nil {
		return fail(err)
	}
	return secret, added, nil
}

// appScramKeys derives the keys of an app password under the salt of its account.
func (a *Accounts) appScramKeys(ctx context.Context, user string, secret mail.Secret) (mail.ScramKeys, error) {
	there, row, err := a.find(ctx, user)
	if err != nil || there == "" {
		return mail.ScramKeys{}, errors.Join(err, missing(there != ""))
	}
	account, err := decodeScram(row.scram)
	if err != nil {
		return mail.ScramKeys{}, fmt.Errorf("read salt of the account, which a new password of the account mends: %w", err)
	}
	return scramKeysOf(secret.Reveal(), account)
}

// checkAppPassword checks what the user has chosen.
func checkAppPassword(p control.AppPassword, now time.Time) error {
	for _, scope := range p.Scopes {
		if scope != string(mail.ProtocolIMAP) && scope != string(mail.ProtocolSMTP) {
			return ErrAppPasswordScope
		}
	}
	length := utf8.RuneCountInString(p.Name)
	unprintable := strings.ContainsFunc(p.Name, func(r rune) bool { return !unicode.IsPrint(r) })
	switch {
	case length == 0 || length > maxAppPasswordName || unprintable || !utf8.ValidString(p.Name) || strings.TrimSpace(p.Name) != p.Name:
		return ErrAppPasswordName
	case !p.Expires.IsZero() && !p.Expires.After(now):
		return ErrAppPasswordExpires
	default:
		return nil
	}
}

// scopesOf gives the scopes in order, each once.
func scopesOf(chosen []string) []string {
	if len(chosen) == 0 {
		return []string{string(mail.ProtocolIMAP), string(mail.ProtocolSMTP)}
	}
	scopes := slices.Clone(chosen)
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

func (a *Accounts) insertAppPassword(tx *store.Tx, p appPassword) error {
	if ok, err := a.ExistsIn(tx, p.Account); err != nil || !ok {
		return errors.Join(err, missing(ok))
	}
	var count, same int
	err := tx.QueryRow(`SELECT COUNT(*), COUNT(CASE WHEN name = ? THEN 1 END) FROM app_passwords WHERE account = ?`, p.Name, p.Account).Scan(&count, &same)
	switch {
	case err != nil:
		return err
	case same > 0:
		return fmt.Errorf("%q: %w", p.Name, ErrAppPasswordExists)
	case count >= maxAppPasswords:
		return ErrAppPasswordMany
	}
	_, err = tx.Exec(`INSERT INTO app_passwords (id, account, name, scopes, sha256, scram, created, expires, last_used, last_from)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, '')`,
		p.ID, p.Account, p.Name, strings.Join(p.Scopes, ","), p.sum, p.scram, p.Created.UnixMicro(), microseconds(p.Expires))
	return err
}

// missing is ErrNotFound unless the account is there.
func missing(there bool) error {
	if there {
		return nil
	}
	return ErrNotFound
}

// AppPasswords lists those of an account, the oldest first, also for 30 days those
// that have expired. The error is ErrNotFound if there is no such account.
func (a *Accounts) AppPasswords(ctx context.Context, account string) ([]control.AppPassword, error) {
	user, ok := normal(account)
	if !ok || !a.known.has(user) {
		return nil, fmt.Errorf("list app passwords of account %q: %w", account, ErrNotFound)
	}
	rows, err := a.appPasswordsOf(ctx, user)
	if err != nil {
		return nil, fmt.Errorf("list app passwords of account %q: %w", user, err)
	}
	var list []control.AppPassword
	for _, p := range rows {
		list = append(list, p.AppPassword)
	}
	return list, nil
}

// appPasswordsOf reads the rows of an account, the oldest first.
func (a *Accounts) appPasswordsOf(ctx context.Context, user string) ([]*appPassword, error) {
	var list []*appPassword
	err := a.store.Read(ctx, func(s *store.Snapshot) error {
		rows, err := s.Query(selectApp+` WHERE account = ? ORDER BY created, id`, user)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			p, err := scanAppPassword(rows)
			if err != nil {
				return err
			}
			list = append(list, p)
		}
		return rows.Err()
	})
	return list, err
}

// RevokeAppPassword ends an app password at once; sessions that it has let in go
// on. The error is a store.ErrNotFound if the account has none of that id.
func (a *Accounts) RevokeAppPassword(ctx context.Context, account, id string) error {
	user, ok := normal(account)
	if !ok || !a.known.has(user) {
		return fmt.Errorf("revoke app password of account %q: %w", account, ErrNotFound)
	}
	err := a.store.Write(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec(`DELETE FROM app_passwords WHERE id = ? AND account = ?`, id, user)
		if err == nil && result.RowsAffected == 0 {
			return store.ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke app password %q of account %q: %w", id, user, err)
	}
	return nil
}

// Sweep removes app passwords that expired long ago.
func (a *Accounts) Sweep(tx *store.Tx, now time.Time, limit int) (int, error) {
	result, err := tx.Exec(`DELETE FROM app_passwords WHERE id IN
		(SELECT id FROM app_passwords WHERE expires > 0 AND expires <= ? ORDER BY expires LIMIT ?)`, now.Add(-keepExpired).UnixMicro(), limit)
	if err != nil {
		return 0, fmt.Errorf("remove expired app passwords: %w", err)
	}
	return int(result.RowsAffected), nil
}

// newAppPassword makes one. Each of its characters holds 5 random bits.
func newAppPassword() (id string, secret mail.Secret) {
	random := make([]byte, appPasswordID+appPasswordSecret)
	rand.Read(random)
	for i, b := range random {
		random[i] = appPasswordAlphabet[b%byte(len(appPasswordAlphabet))]
	}
	id = string(random[:appPasswordID])
	return id, mail.Secret(appPasswordPrefix + id + "-" + string(random[appPasswordID:]))
}

// parseAppPassword tells whether a password has the form of an app password, and
// gives its id and itself without the spaces that copying may put around it.
func parseAppPassword(plain string) (id, bare string, ok bool) {
	bare = strings.Trim(plain, " ")
	rest, ok := strings.CutPrefix(bare, appPasswordPrefix)
	if !ok || len(bare) != appPasswordSize || rest[appPasswordID] != '-' {
		return "", "", false
	}
	for i := range len(rest) {
		if i != appPasswordID && strings.IndexByte(appPasswordAlphabet, rest[i]) < 0 {
			return "", "", false
		}
	}
	return rest[:appPasswordID], bare, true
}

const selectApp = `SELECT id, account, name, scopes, sha256, scram, created, expires, last_used, last_from FROM app_passwords`

// scanner is a row, alone or one of several.
type scanner interface{ Scan(dest ...any) error }

func scanAppPassword(row scanner) (*appPassword, error) {
	var p appPassword
	var scopes, from string
	var created, expires, used int64
	if err := row.Scan(&p.ID, &p.Account, &p.Name, &scopes, &p.sum, &p.scram, &created, &expires, &used, &from); err != nil {
		return nil, err
	}
	p.Scopes = strings.Split(scopes, ",")
	p.Created, p.Expires, p.LastUsed = timeOf(created), timeOf(expires), timeOf(used)
	p.LastFrom, _ = netip.ParseAddr(from) // "" until it is used
	return &p, nil
}

// microseconds gives a time as the database keeps it, 0 for the zero time.
func microseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// timeOf is the reverse of microseconds.
func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

// LooksLikeAppPassword tells, by its form alone, whether a password may be one of
// those that AddAppPassword makes.
func (*Accounts) LooksLikeAppPassword(password mail.Secret) bool {
	_, _, ok := parseAppPassword(password.Reveal())
	return ok
}
