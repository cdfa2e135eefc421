package mail

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Setting is a setting of a handler as it held when the handler decided.
type Setting struct {
	// Attribute is its name; that of one in a nested block has the block's header in
	// front, as in "list \"example.org\".reply".
	Attribute string `json:"attribute"`
	// Value is as the file would have it: "" if it is not set and has no default, stars
	// if it is a secret.
	Value string `json:"value"`
	// Source says whose value it is, see tuning.Source; "default" is the module's own.
	Source string `json:"source"`
	// Place is where it stands: "file:line", or "database: domain example.org"; "" for
	// a default.
	Place string `json:"place,omitempty"`
	// Since is when it was set, where it is of the database.
	Since time.Time `json:"since,omitzero"`
}

// Settings are those of a handler. What its verdicts were made by is found by
// their hash afterwards, whatever has been set since. They do not change; many
// entries share them. They are safe for concurrent use, and nil has none.
type Settings struct {
	list func() []Setting
	once sync.Once
	hash SettingsHash
}

// NewSettings makes the settings that list gives, which is asked when they are
// first needed, and again later: it always gives the same.
func NewSettings(list func() []Setting) *Settings { return &Settings{list: list} }

// StoredSettings are settings of which only the hash is at hand.
func StoredSettings(hash SettingsHash) *Settings {
	s := &Settings{hash: hash}
	s.once.Do(func() {})
	return s
}

// List gives the settings, nil if only their hash is at hand.
func (s *Settings) List() []Setting {
	if s == nil || s.list == nil {
		return nil
	}
	return s.list()
}

// Hash names the settings: equal ones have the same. That of nil is zero.
func (s *Settings) Hash() SettingsHash {
	if s == nil {
		return SettingsHash{}
	}
	s.once.Do(func() {
		sum := sha256.Sum256(s.Text())
		s.hash = SettingsHash(sum[:len(s.hash)])
	})
	return s.hash
}

// Text gives the settings in JSON, to be stored.
func (s *Settings) Text() []byte {
	text, err := json.Marshal(s.List())
	if err != nil {
		return []byte("null") // there is nothing in a Setting that has no JSON but a time beyond the year 9999
	}
	return text
}

// ParseSettings reads what Text gave.
func ParseSettings(text []byte) ([]Setting, error) {
	var list []Setting
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return list, nil
}

// Equal tells whether both are the same by their hashes.
func (s *Settings) Equal(o *Settings) bool { return s.Hash() == o.Hash() }

// SettingsHash is the beginning of the SHA-256 hash of settings.
type SettingsHash [12]byte

// String gives the hash in hexadecimal digits, "" for the zero hash.
func (h SettingsHash) String() string {
	if h == (SettingsHash{}) {
		return ""
	}
	return hex.EncodeToString(h[:])
}

// ParseSettingsHash is the reverse of String.
func ParseSettingsHash(text string) (h SettingsHash, err error) {
	if text == "" {
		return h, nil
	}
	if len(text) == hex.EncodedLen(len(h)) {
		_, err = hex.Decode(h[:], []byte(text))
	}
	if err != nil || h == (SettingsHash{}) {
		return SettingsHash{}, fmt.Errorf("%q is no hash of settings", text)
	}
	return h, nil
}
