package spamassassin

import (
	"strings"

	"golang.org/x/net/idna"

	"github.com/mox-like/mox-like/core/mail"
)

// user gives the name that spamd is sent for a message to these recipients, "" for
// none.
func (s *SpamAssassin) user(recipients []*mail.Recipient) string {
	user := ""
	for i, r := range recipients {
		other := s.userOf(owner(r))
		if i > 0 && other != user || other == "" {
			return ""
		}
		user = other
	}
	return user
}

// owner gives the account that a recipient stands for: the one whose owner teaches
// what is spam. That of several, and of none that is known, is the address itself
// without what follows a plus sign; in the name of an account it is a part of the name.
func owner(r *mail.Recipient) mail.Address {
	if len(r.Accounts) == 1 {
		if account, err := mail.ParseAddress(r.Accounts[0]); err == nil {
			return account
		}
	}
	return r.Address.Base()
}

// userOf gives the name for an address, "" for none.
func (s *SpamAssassin) userOf(address mail.Address) string {
	name := s.User
	switch s.User {
	case "recipient":
		name = mailboxName(address)
	case "domain":
		name = domainName(address)
	}
	if !isUserName(name) {
		return ""
	}
	return name
}

func mailboxName(a mail.Address) string {
	return a.Fold().LocalPart + "@" + domainName(a)
}

func domainName(a mail.Address) string {
	ascii, err := idna.Lookup.ToASCII(a.Domain)
	if err != nil {
		return ""
	}
	return ascii
}

// isUserName tells whether spamd can be given a name: it may make a path of it.
func isUserName(s string) bool {
	for i := range len(s) {
		c := s[i]
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !word && strings.IndexByte("._+=-@", c) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= maxUser && s[0] != '.' && s[0] != '-' && !strings.Contains(s, "..") && s[len(s)-1] != '@'
}
