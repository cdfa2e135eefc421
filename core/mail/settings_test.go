package mail_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	list := []mail.Setting{
		{Attribute: "delay", Value: `"10m"`, Source: "database settings", Place: "database: domain example.test", Since: time.Date(2026, 11, 25, 1, 2, 3, 0, time.UTC)},
		{Attribute: "mode", Value: `"enforce"`, Source: "default"},
	}
	made := func(list ...mail.Setting) *mail.Settings {
		return mail.NewSettings(func() []mail.Setting { return list })
	}
	one, same, other := made(list...), made(list...), made(list[0])
	var none *mail.Settings
	if !one.Equal(same) || one.Equal(other) || one.Equal(none) || !none.Equal(nil) {
		t.Errorf("hashes %s, %s, %s and %q", one.Hash(), same.Hash(), other.Hash(), none.Hash())
	}
	got, err := mail.ParseSettings(one.Text())
	if diff := cmp.Diff(list, got); diff != "" || err != nil {
		t.Errorf("read again, error %v (-want +got):\n%s", err, diff)
	}
	stored := mail.StoredSettings(one.Hash())
	if !stored.Equal(one) || stored.List() != nil || none.List() != nil || none.Hash().String() != "" {
		t.Errorf("settings of which only the hash is there: %s, %v", stored.Hash(), stored.List())
	}
	if hash, err := mail.ParseSettingsHash(one.Hash().String()); err != nil || hash != one.Hash() {
		t.Errorf("hash %s is read as %s, %v", one.Hash(), hash, err)
	}
	if hash, err := mail.ParseSettingsHash(""); err != nil || hash != none.Hash() {
		t.Errorf("no hash is read as %s, %v", hash, err)
	}
	for _, text := range []string{"0", "zz", "000000000000000000000000", "0102030405060708090a0b0c0d", "0102030405060708090a0bzz"} {
		if hash, err := mail.ParseSettingsHash(text); err == nil {
			t.Errorf("%q is taken as %s", text, hash)
		}
	}
	if _, err := mail.ParseSettings([]byte("{")); err == nil {
		t.Error("rubbish is taken as settings")
	}
}
