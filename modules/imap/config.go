// Package imap is listener.imap: users read and keep their mail. It speaks
// IMAP4rev1 (RFC 3501) with extensions, among them IDLE (RFC 2177), UIDPLUS (RFC
// 4315), MOVE (RFC 6851), SPECIAL-USE (RFC 6154) and NAMESPACE (RFC 2342).
//
// The capabilities in answer.go name all extensions. The package consists of
// three layers. The fence frames commands, keeps deadlines and limits, and
// gathers responses; imapserver (of go-imap) parses the arguments and formats
// the responses; the session does what the commands say, with the mailbox
// store. The fence lets imapserver see nothing but what is well formed,
// and the session knows of imapserver only its writers, so that a protocol layer
// of our own can take the place of both.
//
// Logging in runs the auth stage of the listener's chain; nobody logs in without
// TLS. Mailboxes belong to modules/mailbox.
package imap

import (
	"net/netip"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(new(Listener)) }

// Settings are what a listener block says.
type Settings struct {
	// Address lists where to listen, as host:port or unix:path. 0.0.0.0 is every
	// IPv4 address of the machine, [::] every IPv6 address.
	Address []string `config:"address,required" example:"0.0.0.0:993,[::]:993"`
	// TLS is when encryption begins: with the connection (implicit), or by
	// STARTTLS (required and starttls, which mean the same here, since nobody
	// logs in before). With off there is no TLS, so that nobody can log in.
	TLS string `config:"tls" default:"implicit" values:"implicit,required,starttls,off"`
	// MaxMessageSize bounds a message that a client stores.
	MaxMessageSize config.Size `config:"max_message_size" default:"50MB" min:"64KB" max:"4GB"`
	// Limits bound what clients may do at once and in one session.
	Limits *Limits `config:"limits,block"`
	// Timeouts bound each wait.
	Timeouts *Timeouts `config:"timeouts,block"`
	// ProxyProtocol is for a balancer in front that speaks the PROXY protocol.
	ProxyProtocol *ProxyProtocol `config:"proxy_protocol,block"`
}

// Limits bound what clients may do.
type Limits struct {
	// Connections is how many there may be at once.
	Connections int `config:"connections" default:"2000" min:"1" max:"1000000"`
	// ConnectionsPerNetwork is how many one IPv4 address or IPv6 /64 may have. Mail
	// programs open several at once.
	ConnectionsPerNetwork int `config:"connections_per_network" default:"50" min:"1" max:"1000000"`
	// AuthFailures is how many logins may fail before the client is cut off.
	AuthFailures int `config:"auth_failures" default:"3" min:"1" max:"100"`
	// Spool bounds what the messages that are being appended take in memory and on
	// disk, together with those that smtp listeners receive.
	Spool config.Size `config:"spool" default:"1GB" min:"1MB"`
}

// Timeouts bound each wait.
type Timeouts struct {
	// Login is how long a client may take to log in.
	Login time.Duration `config:"login" default:"1m" min:"1s" max:"30m"`
	// Idle is how long a client that has logged in may be silent. RFC 9051 asks for
	// 30 minutes at least.
	Idle time.Duration `config:"idle" default:"30m" min:"30m" max:"24h"`
	// Command is how long a client may take for a command, and for the next piece
	// of a message that it stores.
	Command time.Duration `config:"command" default:"1m" min:"1s" max:"30m"`
	// Work is how long the server may work on a command without a response: on a
	// search, or on the next message of a FETCH. After that it gives up.
	Work time.Duration `config:"work" default:"2m" min:"1s" max:"1h"`
	// Write is how long a client may take to accept the next piece of a response.
	Write time.Duration `config:"write" default:"1m" min:"1s" max:"1h"`
	// Handshake is how long TLS may take, and the header of the PROXY protocol.
	Handshake time.Duration `config:"handshake" default:"30s" min:"1s" max:"5m"`
	// Stage is how long the chain may take for one stage.
	Stage time.Duration `config:"stage" default:"1m" min:"1s" max:"10m"`
}

// ProxyProtocol names the balancers.
type ProxyProtocol struct {
	// From lists the networks whose connections begin with a header of the PROXY
	// protocol, version 1 or 2. Those over a unix socket do too. It is not looked
	// for in others.
	From []netip.Prefix `config:"from,required"`
}

// Module describes the listener.
func (*Listener) Module() core.Info {
	return core.Info{
		ID:     "listener.imap",
		Stages: mail.AtConnect | mail.AtAuth,
		New:    func() core.Module { return new(Listener) },
	}
}
