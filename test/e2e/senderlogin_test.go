package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSenderLogin has users send under their own names, and under those of others.
func TestSenderLogin(t *testing.T) {
	t.Parallel()
	p := newSite(t, settings{Sent: "sender_login {\n allow = {\n \"bob@example.test\" = [\"@example.net\"]\n }\n }"}).serve(t, alice, bob, carol)
	for _, test := range []struct {
		name, user, from, header string
		code                     int
		reply                    string
	}{
		{"own", alice, alice, alice, 0, `250 2\.0\.0 `},
		{"own, with a tag", alice, "alice+news@example.test", alice, 0, `250 2\.0\.0 `},
		{"own alias", alice, "sales@example.test", "sales@example.test", 0, `250 2\.0\.0 `},
		{"somebody else's", alice, carol, carol, swaksMail, `553 5\.7\.1 `},
		{"somebody else's in the header", alice, alice, carol, swaksData, `550 5\.7\.1 `},
		{"a stranger's", alice, stranger, stranger, swaksMail, `553 5\.7\.1 `},
		{"another domain's, which bob may use", bob, "news@example.net", "news@example.net", 0, `250 2\.0\.0 `},
		{"another domain's, which alice may not use", alice, "news@example.net", "news@example.net", swaksMail, `553 5\.7\.1 `},
		{"a report", alice, "<>", alice, 0, `250 2\.0\.0 `},
	} {
		t.Run(test.name, func(t *testing.T) {
			expect(t, swaks(t, "--server", p.address(t, "submission"), "--tlsc", "--auth", "PLAIN", "--auth-user", test.user, "--auth-password", password,
				"--from", test.from, "--h-From", "Somebody <"+test.header+">", "--to", carol, "--header", "Subject: "+test.name), test.code, test.reply)
		})
	}
	want := []string{"own", "own, with a tag", "own alias", "another domain's, which bob may use", "a report"}
	if diff := cmp.Diff(want, p.read(t, carol).subjects(t)); diff != "" {
		t.Errorf("messages to carol (-want +got):\n%s", diff)
	}
}
