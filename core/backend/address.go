// Package backend holds what handlers need that ask a daemon beside the server:
// where it listens, and turns for the messages that want to be asked about.
package backend

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// Address is where a daemon listens, in the file "unix:path" or "tcp:host:port".
type Address struct {
	// Network is unix or tcp, Name a path or host:port, as net.Dial takes them.
	Network, Name string
}

// maxSocketPath is the longest path of a Unix socket on Linux: sun_path has 108
// bytes with the final zero (unix(7)).
const maxSocketPath = 107

var errAddress = errors.New(`an address is "unix:path" or "tcp:host:port"`)

// UnmarshalText reads an address as the file writes it.
func (a *Address) UnmarshalText(text []byte) error {
	network, name, ok := strings.Cut(string(text), ":")
	if !ok || name == "" {
		return errAddress
	}
	switch network {
	case "unix":
	case "tcp":
		host, port, err := net.SplitHostPort(name)
		if err != nil || host == "" || port == "" {
			return errAddress
		}
	default:
		return errAddress
	}
	a.Network, a.Name = network, name
	return nil
}

// String gives the form that UnmarshalText reads.
func (a Address) String() string { return a.Network + ":" + a.Name }

// MarshalText is String.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Resolve makes the path of a Unix socket absolute by path, see core.Context.Path.
func (a *Address) Resolve(path func(string) string) {
	if a.Network == "unix" {
		a.Name = path(a.Name)
	}
}

// Fault says why the system cannot have such an address, "" if it can.
func (a Address) Fault() string {
	if a.Network == "unix" && len(a.Name) > maxSocketPath {
		return fmt.Sprintf("the socket path %s has %d bytes; the system allows %d", a.Name, len(a.Name), maxSocketPath)
	}
	return ""
}
