// Package authres is handler.authres: it takes forged Authentication-Results out of
// a message and puts one field with all that this server has found on top (RFC
// 8601).
//
// A field is forged if it claims to be by this server, by its authserv-id, since
// the server has not written any yet (section 5). Those of other servers stay: they
// are what the sender's side says of itself. A field whose authserv-id cannot be read
// for sure goes, too: it may be taken for this server's by a program that is lenient.
package authres

import (
	"context"
	"fmt"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(&AuthRes{}) }

// AuthRes writes what the handlers in front of it have found about the sender into a
// field Authentication-Results, which mail programs and filters read, and takes out
// those that strangers wrote in this server's name. It stands behind all that check,
// such as spf, dkim_verify and dmarc.
type AuthRes struct {
	// AuthServID is the name under which the results are written, by which programs
	// know that they may trust them. All servers of one site should have the same.
	// Without it this server's hostname is used.
	AuthServID string `config:"authserv_id,fileonly" example:"mx.example.org"`
	// Field is the name of the field. Forged fields Authentication-Results go whatever
	// it is.
	Field string `config:"field,fileonly" default:"Authentication-Results"`

	id string
}

// Module describes the handler.
func (*AuthRes) Module() core.Info {
	return core.Info{
		ID:     "handler.authres",
		Edits:  true,
		Stages: mail.AtData,
		New:    func() core.Module { return new(AuthRes) },
	}
}

// Provision takes the server's name.
func (a *AuthRes) Provision(c *core.Context) error {
	if a.id = a.AuthServID; a.id == "" {
		a.id = c.Hostname()
	}
	return nil
}

// standardField is the name that programs know (RFC 8601).
const standardField = "Authentication-Results"

// maxName bounds the settings, in bytes.
const maxName = 253

// Validate checks the names.
func (a *AuthRes) Validate() core.Problems {
	var problems core.Problems
	if a.AuthServID != "" && (len(a.AuthServID) > maxName || !isValue(a.AuthServID)) {
		problems.Errorf("authserv_id", "%q is not a name of at most %d letters, digits and signs without spaces: write one such as \"mx.example.org\"", a.AuthServID, maxName)
	}
	if !isFieldName(a.Field) {
		problems.Errorf("field", "%q is not the name of a header field: write one of letters, digits and hyphens, such as \"Authentication-Results\"", a.Field)
	}
	return problems
}

// isFieldName tells whether a name is one of letters, digits and hyphens that a
// header field can have.
func isFieldName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// Handle cleans the message and adds the field. Without results the field says none,
// but for what a user sends who has logged in: nobody checks that, and it goes out
// without.
func (a *AuthRes) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	forged := 0
	for i, f := range tx.Message.Header.Fields {
		if (strings.EqualFold(f.Name, standardField) || strings.EqualFold(f.Name, a.Field)) && claims(f.Value(), a.id) {
			tx.RemoveHeaderField(i)
			forged++
		}
	}
	results := tx.AuthResults()
	reason := "no results"
	if len(results) > 0 || tx.Session.User == "" {
		tx.AddHeaderField(a.Field, mail.FormatAuthResults(len(a.Field)+len(":"), a.id, results))
		reason = fmt.Sprintf("%d results written", len(results))
	}
	if forged > 0 {
		reason += fmt.Sprintf(", %d forged fields of %s removed", forged, mail.Printable(a.id, maxName))
	}
	return mail.Continue(reason), nil
}

// ValidatePlace warns of a place in front of handlers whose results it would miss.
func (*AuthRes) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	for _, module := range modules[place:] {
		switch module {
		case "dkim_verify", "dmarc", "arc_verify":
			problems.Warnf("", "authres stands in front of %s, and does not write what that finds; write it behind %s", module, module)
		}
	}
	return problems
}

var (
	_ core.Provisioner    = (*AuthRes)(nil)
	_ core.Validator      = (*AuthRes)(nil)
	_ core.PlaceValidator = (*AuthRes)(nil)
	_ core.Handler        = (*AuthRes)(nil)
)
