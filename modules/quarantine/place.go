package quarantine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
)

// scanners are the modules that may quarantine, writers those that write into the
// message what its reader should see.
var (
	scanners = [...]string{"arc_verify", "attachments", "clamav", "dkim_verify", "dmarc", "dnsbl", "exec", "headers", "http", "milter", "rspamd", "score", "spamassassin", "spf", "verdict"}
	writers  = [...]string{"authres"}
)

// ValidatePlace warns of a place in front of handlers that may quarantine or that
// write into the message, and of a chain in which none quarantines. Modules of other
// builds may do so without being known here.
func (*Quarantine) ValidatePlace(modules []string, place int) core.Problems {
	var problems core.Problems
	for _, module := range modules[place+1:] {
		switch {
		case slices.Contains(scanners[:], module):
			problems.Warnf("", "quarantine stands in front of %s, and does not hold what that quarantines; write it behind %s", module, module)
		case slices.Contains(writers[:], module):
			problems.Warnf("", "quarantine stands in front of %s, so that messages are held, and released, without what that writes; write it behind %s", module, module)
		}
	}
	if !slices.ContainsFunc(modules, func(m string) bool { return slices.Contains(scanners[:], m) }) {
		problems.Warnf("", "quarantine has nothing to do: no handler of this chain is known to quarantine; write one in front of it, such as %s", strings.Join(scanners[1:3], " or "))
	}
	return problems
}

// ValidateNames warns of names in keep that nothing has: what was meant is not kept.
func (q *Quarantine) ValidateNames(known []string) core.Problems {
	var problems core.Problems
	for _, name := range q.Keep {
		if slices.Contains(known, name) {
			continue
		}
		text := ""
		if near := config.Suggest(name, known); near != "" {
			text = fmt.Sprintf("; did you mean %q?", near)
		}
		problems.Warnf("keep", "%q is neither a handler of this chain nor a module, so that nothing is kept for it%s", name, text)
	}
	return problems
}

var (
	_ core.PlaceValidator = (*Quarantine)(nil)
	_ core.NameValidator  = (*Quarantine)(nil)
)
