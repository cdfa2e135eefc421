package sasl

import (
	"bytes"

	"github.com/mox-like/mox-like/core/mail"
)

// plain reads the one message of PLAIN: authzid, NUL, authcid, NUL, password
// (RFC 4616 section 2).
func plain(login func(*mail.Credentials) error) step {
	var read step
	read = func(response []byte) ([]byte, step, error) {
		if response == nil {
			return []byte{}, read, nil
		}
		c, err := parsePlain(response)
		if err != nil {
			return nil, nil, err
		}
		return nil, nil, login(c)
	}
	return read
}

func parsePlain(response []byte) (*mail.Credentials, error) {
	authzid, rest, ok := bytes.Cut(response, []byte{0})
	if !ok {
		return nil, malformed("no NUL in a PLAIN response")
	}
	authcid, password, ok := bytes.Cut(rest, []byte{0})
	if !ok || bytes.IndexByte(password, 0) >= 0 {
		return nil, malformed("a PLAIN response has two NULs")
	}
	if len(authcid) == 0 || len(password) == 0 {
		return nil, malformed("user name or password of a PLAIN response is empty")
	}
	if err := checkIdentity(string(authzid), string(authcid)); err != nil {
		return nil, err
	}
	return &mail.Credentials{Mechanism: Plain, Username: string(authcid), Password: mail.Secret(password)}, nil
}

// checkIdentity refuses to let one user act for another.
func checkIdentity(authzid, authcid string) error {
	if authzid == "" || authzid == authcid {
		return nil
	}
	return refuse(mail.NewReply(535, 7, 8, "Authentication failed"), ErrIdentity, "read identities")
}

// loginUsername asks for the user name. Some clients send it as an initial
// response.
func loginUsername(login func(*mail.Credentials) error) step {
	var read step
	read = func(response []byte) ([]byte, step, error) {
		if response == nil {
			return []byte("Username:"), read, nil
		}
		if len(response) == 0 || bytes.IndexByte(response, 0) >= 0 {
			return nil, nil, malformed("user name of a LOGIN exchange is empty or has a NUL")
		}
		return []byte("Password:"), loginPassword(string(response), login), nil
	}
	return read
}

func loginPassword(username string, login func(*mail.Credentials) error) step {
	return func(response []byte) ([]byte, step, error) {
		if len(response) == 0 || bytes.IndexByte(response, 0) >= 0 {
			return nil, nil, malformed("password of a LOGIN exchange is empty or has a NUL")
		}
		return nil, nil, login(&mail.Credentials{Mechanism: Login, Username: username, Password: mail.Secret(response)})
	}
}
