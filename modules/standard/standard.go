// Package standard is the list of modules of the default build.
package standard

//go:generate go run ../../core/reference/gen -root ../..

import (
	_ "github.com/mox-like/mox-like/modules/accounts"
	_ "github.com/mox-like/mox-like/modules/admin"
	_ "github.com/mox-like/mox-like/modules/attachments"
	_ "github.com/mox-like/mox-like/modules/authres"
	_ "github.com/mox-like/mox-like/modules/blocklist"
	_ "github.com/mox-like/mox-like/modules/bruteforce"
	_ "github.com/mox-like/mox-like/modules/clamav"
	_ "github.com/mox-like/mox-like/modules/deliver"
	_ "github.com/mox-like/mox-like/modules/dkim"
	_ "github.com/mox-like/mox-like/modules/dmarc"
	_ "github.com/mox-like/mox-like/modules/dnsbl"
	_ "github.com/mox-like/mox-like/modules/greylist"
	_ "github.com/mox-like/mox-like/modules/headers"
	_ "github.com/mox-like/mox-like/modules/hook"
	_ "github.com/mox-like/mox-like/modules/imap"
	_ "github.com/mox-like/mox-like/modules/learn"
	_ "github.com/mox-like/mox-like/modules/mailbox"
	_ "github.com/mox-like/mox-like/modules/milter"
	_ "github.com/mox-like/mox-like/modules/password"
	_ "github.com/mox-like/mox-like/modules/quarantine"
	_ "github.com/mox-like/mox-like/modules/ratelimit"
	_ "github.com/mox-like/mox-like/modules/rdns"
	_ "github.com/mox-like/mox-like/modules/rspamd"
	_ "github.com/mox-like/mox-like/modules/score"
	_ "github.com/mox-like/mox-like/modules/senderlogin"
	_ "github.com/mox-like/mox-like/modules/smtp"
	_ "github.com/mox-like/mox-like/modules/spamassassin"
	_ "github.com/mox-like/mox-like/modules/spf"
	_ "github.com/mox-like/mox-like/modules/tlscert"
	_ "github.com/mox-like/mox-like/modules/totp"
	_ "github.com/mox-like/mox-like/modules/verdict"
)
