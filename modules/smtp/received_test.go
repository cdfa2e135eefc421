package smtp

import (
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// TestReverseName: a name that was confirmed stands in the Received field, and
// nothing else that the DNS says.
func TestReverseName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		result, reason, want string
	}{
		{"pass", "mail.example.org", "mail.example.org"},
		{"fail", "mail.example.org", ""},
		{"pass", "no name\r\nat all", ""},
		{"pass", "[192.0.2.1]", ""},
		{"pass", "", ""},
	} {
		tx := mail.NewTransaction("id", new(mail.Session), time.Now())
		tx.SetAuthResult(mail.AuthResult{Method: "iprev", Result: c.result, Reason: c.reason})
		if got := reverseName(tx); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.result, c.reason, got, c.want)
		}
	}
}
