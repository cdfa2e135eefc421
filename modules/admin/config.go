// Package admin is listener.admin: the API by which other programs do all that
// the commands do, and by which Prometheus reads the figures of the server.
//
// It speaks HTTP/1.1: /v1 is the API (core/control), /metrics has the figures in
// the text format of Prometheus, and /healthz tells whether the server serves. On
// a Unix socket the permissions of the file are the guard: who may open it may do
// everything. On TCP there is nothing but TLS, and every client shows a token or a
// certificate; only /healthz is for everyone.
package admin

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(new(Listener)) }

// Settings are what a listener block says.
type Settings struct {
	// Address lists where to listen, as unix:path or host:port. A relative path
	// stands in the data directory. host:port needs TLS and tokens or client_ca.
	Address []string `config:"address" default:"unix:admin.sock"`
	// Group is a group of this machine whose members may use the Unix sockets too,
	// which are the server's user's alone without it. They must get at the folder of
	// the socket, which they do not where that is the data directory.
	Group string `config:"group" example:"mail-admins"`
	// Token is what a client on TCP shows in Authorization: Bearer.
	Token []Token `config:"token,block"`
	// ClientCA is a file with the certificates (PEM) of those who issue client
	// certificates. Whoever has one by them may do everything: let it be an issuer of
	// your own.
	ClientCA string `config:"client_ca" example:"admin-ca.pem"`
	// Limits bound what clients may do at once.
	Limits *Limits `config:"limits,block"`
}

// Token lets clients in that know a secret.
type Token struct {
	// Name is what the audit trail calls the client.
	Name string `config:"name,label"`
	// Secret is what the client shows, of at least 32 characters. 'openssl rand -hex
	// 32' makes one.
	Secret mail.Secret `config:"secret" example:"env(\"ADMIN_TOKEN\")"`
	// SHA256 is the SHA-256 of the secret in hexadecimal digits, where the file shall
	// not have the secret itself.
	SHA256 string `config:"sha256"`
	// Scope says what the client may do: look, or change things too.
	Scope string `config:"scope" default:"read" values:"read,write"`
}

// Limits bound what clients may do.
type Limits struct {
	// Connections is how many there may be at once.
	Connections int `config:"connections" default:"100" min:"1" max:"10000"`
	// ConnectionsPerNetwork is how many one IPv4 address or IPv6 /64 may have.
	ConnectionsPerNetwork int `config:"connections_per_network" default:"20" min:"1" max:"10000"`
	// AuthFailures is how many wrong tokens one IPv4 address or IPv6 /64 may show
	// within a minute. Then it is not listened to for the rest of it.
	AuthFailures int `config:"auth_failures" default:"10" min:"1" max:"1000"`
}

// minSecret is how many characters the secret of a token has at least: enough that
// nobody can guess it.
const minSecret = 32

// Module describes the listener.
func (*Listener) Module() core.Info {
	return core.Info{ID: "listener.admin", Looks: []string{"client_ca", "group"}, New: func() core.Module { return new(Listener) }}
}

// isUnix tells whether an address is that of a Unix socket.
func isUnix(address string) bool { return strings.HasPrefix(address, "unix:") }

// Validate checks the settings against each other, and reads the files that they
// name.
func (l *Listener) Validate() core.Problems {
	var ps core.Problems
	if len(l.Address) == 0 {
		ps = append(ps, core.Problem{Attribute: "address", Message: "the listener has no address", Detail: `Write address = ["unix:admin.sock"], or leave it out.`})
	}
	remote := false
	for i, address := range l.Address {
		if isUnix(address) {
			continue
		}
		remote = true
		ps = append(ps, l.validateRemote(fmt.Sprintf("address[%d]", i), address)...)
	}
	ps = append(ps, l.validateTokens()...)
	if l.ClientCA != "" {
		if _, err := l.clientCAs(); err != nil {
			ps.Errorf("client_ca", "%v", err)
		} else if err := l.user.CheckReadable(l.path(l.ClientCA)); err != nil {
			ps.Warnf("client_ca", "user %s, who the server becomes, cannot read %s: %v", l.user.Name, l.path(l.ClientCA), err)
		}
	}
	if l.Group != "" {
		if _, err := groupID(l.Group); err != nil {
			ps.Errorf("group", "%v", err)
		}
	}
	if !remote {
		ps = append(ps, l.unused()...)
	}
	return ps
}

// validateRemote refuses a TCP address that anyone could use.
func (l *Listener) validateRemote(attribute, address string) core.Problems {
	var ps core.Problems
	if l.tls == nil {
		ps = append(ps, core.Problem{
			Attribute: attribute, Message: fmt.Sprintf("%s needs TLS, and the file has no certificate", address),
			Detail: `Add a tls block, such as tls "self_signed" {}, or use a Unix socket: address = ["unix:admin.sock"].`,
		})
	}
	if len(l.Token) == 0 && l.ClientCA == "" {
		ps = append(ps, core.Problem{
			Attribute: attribute, Message: fmt.Sprintf("anyone who reaches %s could do everything", address),
			Detail: "Add a token block:\ntoken \"NAME\" {\n  secret = env(\"ADMIN_TOKEN\")\n}\nOr name the issuer of client certificates in client_ca.",
		})
	}
	return ps
}

func (l *Listener) validateTokens() core.Problems {
	var ps core.Problems
	seen := make(map[string]bool)
	for i, t := range l.Token {
		at := fmt.Sprintf("token[%d]", i)
		if seen[t.Name] {
			ps.Errorf(at, "two tokens have the name %q", t.Name)
		}
		seen[t.Name] = true
		switch _, err := hex.DecodeString(t.SHA256); {
		case (t.Secret == "") == (t.SHA256 == ""):
			ps.Errorf(at, "a token has either a secret or its sha256")
		case t.SHA256 != "" && (err != nil || len(t.SHA256) != 2*sha256.Size):
			ps.Errorf(at+".sha256", "it is no SHA-256, which has %d hexadecimal digits; make it by: printf %%s SECRET | sha256sum", 2*sha256.Size)
		case t.SHA256 == "" && len(t.Secret) < minSecret:
			ps.Errorf(at+".secret", "the secret is shorter than %d characters and could be guessed; make one by: openssl rand -hex 32", minSecret)
		}
	}
	return ps
}

// unused warns of what has a meaning on TCP only.
func (l *Listener) unused() core.Problems {
	var ps core.Problems
	const why = "has no effect on Unix sockets, where the permissions of the file are the guard"
	if len(l.Token) > 0 {
		ps.Warnf("token[0]", "token %s", why)
	}
	if l.ClientCA != "" {
		ps.Warnf("client_ca", "client_ca %s", why)
	}
	return ps
}

// clientCAs reads the issuers of client certificates.
func (l *Listener) clientCAs() (*x509.CertPool, error) {
	path := l.path(l.ClientCA)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read issuers of client certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read issuers of client certificates: %s has no certificate (PEM)", path)
	}
	return pool, nil
}

// groupID finds a group of this machine.
func groupID(name string) (int, error) {
	group, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("this machine has no group %q: make it, or name another", name)
	}
	id, err := strconv.Atoi(group.Gid)
	if err != nil {
		return 0, fmt.Errorf("look up group %q: %w", name, err)
	}
	return id, nil
}
