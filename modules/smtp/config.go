// Package smtp is listener.smtp: it takes mail in, from strangers (port 25) and
// from users (submission, ports 587 and 465).
//
// It speaks RFC 5321 with PIPELINING (2920), SIZE (1870), 8BITMIME (6152),
// SMTPUTF8 (6531), ENHANCEDSTATUSCODES (2034), CHUNKING (3030), STARTTLS (3207,
// implicit TLS 8314) and AUTH (4954), and mends submitted messages by RFC 6409
// section 8. It offers nothing that the chain would not honour: no DSN,
// REQUIRETLS, BINARYMIME, DELIVERBY or MT-PRIORITY.
//
// Three layers share a session, in one goroutine. The wire holds the bytes: TLS,
// deadlines, one read and one write a round trip. go-smtp keeps the order of
// commands and the SASL dialog; its Conn is the front, which hands it one whole,
// checked line at a time, gathers its replies, and puts some of them right. The
// session is what go-smtp calls: it fills in a mail.Transaction, runs the
// chain's stages and answers with their outcomes. Messages are read past
// go-smtp, whose reader lets bare line ends through and has one deadline for
// everything.
package smtp

import (
	"net/netip"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(&Listener{}) }

// The values of Listener.TLS.
const (
	tlsOff      = "off"
	tlsStartTLS = "starttls"
	tlsRequired = "required"
	tlsImplicit = "implicit"
)

// The values of Listener.Auth.
const (
	authOff      = "off"
	authRequired = "required"
)

// normalise is the value of Listener.BareNewlines that takes bare line ends.
const normalise = "normalise"

// Settings are what a listener block says.
type Settings struct {
	// Address lists where to listen, as host:port or unix:path. 0.0.0.0 is every
	// IPv4 address of the machine, [::] every IPv6 address.
	Address []string `config:"address,required" example:"0.0.0.0:25,[::]:25"`
	// TLS is off, starttls (offered), required (by STARTTLS, before anything else)
	// or implicit (from the first byte on, as on port 465).
	TLS string `config:"tls" default:"starttls" values:"off,starttls,required,implicit"`
	// Auth says whether users may or must log in. It is never offered without TLS.
	Auth string `config:"auth" default:"off" values:"off,optional,required"`
	// Submission makes the listener mend messages as a submission server does:
	// Date and Message-ID are added, From is demanded. Without a value it is so
	// where a login is required.
	Submission *bool `config:"submission"`
	// MaxMessageSize bounds a message.
	MaxMessageSize config.Size `config:"max_message_size" default:"25MB" min:"64KB" max:"2GB"`
	// MaxRecipients bounds the recipients of one message; clients send the rest in
	// further transactions.
	MaxRecipients int `config:"max_recipients" default:"100" min:"1" max:"10000"`
	// MaxReceived is the number of Received fields from which on a message is taken
	// to go round in circles.
	MaxReceived int `config:"max_received" default:"100" min:"10" max:"1000"`
	// BareNewlines says what becomes of a message with CR or LF alone, by which
	// other servers can be fooled into seeing a second message: it is refused, or
	// each becomes CR LF.
	BareNewlines string `config:"bare_newlines" default:"reject" values:"reject,normalise"`
	// GreetDelay is how long a client must keep silent before it is greeted. With
	// 0, one that has spoken already is refused all the same.
	GreetDelay time.Duration `config:"greet_delay" default:"0s" max:"1m"`
	// Limits bound what clients may do at once and in one session.
	Limits *Limits `config:"limits,block"`
	// Timeouts bound each wait.
	Timeouts *Timeouts `config:"timeouts,block"`
	// ProxyProtocol is for a balancer in front that speaks the PROXY protocol.
	ProxyProtocol *ProxyProtocol `config:"proxy_protocol,block"`
}

// Limits bound what clients may do.
type Limits struct {
	// Connections is how many there may be at once. When more than four fifths are
	// taken, a client has 10 seconds for a command outside of a message.
	Connections int `config:"connections" default:"1000" min:"1" max:"1000000"`
	// ConnectionsPerNetwork is how many one IPv4 address or IPv6 /64 may have.
	ConnectionsPerNetwork int `config:"connections_per_network" default:"50" min:"1" max:"1000000"`
	// Commands is how many a client may give without a message being accepted.
	Commands int `config:"commands" default:"1000" min:"10" max:"1000000"`
	// Errors is how many commands may be refused for good, and logins at all,
	// without a message being accepted.
	Errors int `config:"errors" default:"20" min:"1" max:"10000"`
	// LineLength bounds the lines of a message.
	LineLength config.Size `config:"line_length" default:"64KiB" min:"1000B" max:"1MiB"`
	// DataRate is how many bytes a second a message must come in with, as an
	// average over each timeouts.data.
	DataRate config.Size `config:"data_rate" default:"256B" max:"1MB"`
	// Spool bounds what the messages that are being received take in memory and on
	// disk, at all listeners together: over it, large messages have to come again.
	// One message may take up to half.
	Spool config.Size `config:"spool" default:"1GB" min:"1MB"`
}

// Timeouts bound each wait (RFC 5321 section 4.5.3.2).
type Timeouts struct {
	// Command is how long a client may take for a command.
	Command time.Duration `config:"command" default:"5m" min:"1s" max:"1h"`
	// Data is how long a client may be silent within a message.
	Data time.Duration `config:"data" default:"3m" min:"1s" max:"1h"`
	// Write is how long a client may take to accept replies.
	Write time.Duration `config:"write" default:"1m" min:"1s" max:"1h"`
	// Handshake is how long TLS may take, and the header of the PROXY protocol.
	Handshake time.Duration `config:"handshake" default:"30s" min:"1s" max:"5m"`
	// Stage is how long the chain may take for one stage. Clients wait ten minutes
	// after a message.
	Stage time.Duration `config:"stage" default:"5m" min:"1s" max:"10m"`
}

// ProxyProtocol names the balancers.
type ProxyProtocol struct {
	// From lists the networks whose connections begin with a header of the PROXY
	// protocol, version 1 or 2. It is not looked for in others.
	From []netip.Prefix `config:"from,required"`
}

// Module describes the listener.
func (*Listener) Module() core.Info {
	return core.Info{
		ID:     "listener.smtp",
		Stages: mail.AtConnect | mail.AtHelo | mail.AtAuth | mail.AtMail | mail.AtRcpt | mail.AtData,
		New:    func() core.Module { return new(Listener) },
	}
}

// TakesLogins tells whether users may or must log in.
func (s *Settings) TakesLogins() bool { return s.Auth != authOff }

// submission tells whether messages are mended.
func (s *Settings) submission() bool {
	if s.Submission != nil {
		return *s.Submission
	}
	return s.Auth == authRequired
}

// greetsLate tells whether a client must be silent until it is greeted. Users'
// programs are spared, and with TLS from the first byte every client speaks
// first.
func (s *Settings) greetsLate() bool { return !s.submission() && s.TLS != tlsImplicit }

// trusts tells whether connections from ip begin with a PROXY header.
func (s *Settings) trusts(ip netip.Addr) bool {
	if s.ProxyProtocol == nil {
		return false
	}
	for _, network := range s.ProxyProtocol.From {
		if network.Contains(ip) {
			return true
		}
	}
	return false
}
