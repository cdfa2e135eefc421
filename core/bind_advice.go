package core

import (
	"errors"
	"syscall"
)

// bindAdvice says what to do about an address that cannot be bound.
func bindAdvice(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return ": another program listens there; stop it or choose another port"
	case errors.Is(err, syscall.EACCES):
		return ": ports below 1024 need root at the start (set user in the server block to drop it afterwards), CAP_NET_BIND_SERVICE, or a socket from systemd"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return ": this machine does not have that address"
	default:
		return ""
	}
}
