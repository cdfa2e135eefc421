package mail

import "time"

// Account is a user of this server.
type Account struct {
	// Address is the account's name: an address in normal form, see
	// Address.Fold.
	Address string
	// Created is when it was added.
	Created time.Time
}

// ScramKeys are what a server tells a client before SCRAM (RFC 5802 section 5.1)
// and keeps to check it.
type ScramKeys struct {
	Salt       []byte
	Iterations int
	// StoredKey and ServerKey are never sent.
	StoredKey, ServerKey []byte
}

// Secret is a password. It prints as stars, so that no log or error shows it.
type Secret string

// String hides the secret.
func (Secret) String() string { return "****" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "****" }

// MarshalText hides the secret from JSON and other encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("****"), nil }

// Reveal gives the secret itself, for the one who checks it.
func (s Secret) Reveal() string { return string(s) }

// Credentials are what a client logs in with.
type Credentials struct {
	// Mechanism is the SASL mechanism, or LOGIN for IMAP's command.
	Mechanism string
	// Username is as the client gave it.
	Username string
	// Password is set by mechanisms that transmit it.
	Password Secret
	// Proof is set, instead of Password, by mechanisms that do not (SCRAM).
	Proof Proof
	// Code is the second factor that the client gave behind its password, for users
	// who asked for that way; the handler that checks the password sets it.
	Code Secret
	// AppPassword names the app password by which the client was let in, "" for the
	// account's own; the handler that checks the password sets it.
	AppPassword string
}

// Proof is a client's proof that it knows a password (RFC 5802 section 3).
type Proof interface {
	// Verify compares the proof with the keys kept for the account, in constant
	// time, and prepares the server's own signature.
	Verify(storedKey, serverKey []byte) bool
}
