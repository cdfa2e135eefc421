package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/test/daemon"
)

// login logs in from a loopback address, and gives what the server answers: to
// the login, or in place of a greeting. It may be called from any goroutine.
type login func(p *process, from, user, secret string) (reply string, err error)

// logins are the ways to log in.
var logins = map[string]login{"SMTP": (*process).loginSMTP, "IMAP": (*process).loginIMAP}

// The beginnings of the answers that logins get.
var (
	letIn   = map[string]string{"SMTP": "235 ", "IMAP": "a OK "}
	denied  = map[string]string{"SMTP": "535 5.7.8 Authentication credentials invalid", "IMAP": "a NO [AUTHENTICATIONFAILED] "}
	shutOut = map[string]string{"SMTP": "421 4.7.0 ", "IMAP": "* BYE "}
	putOff  = map[string]string{"SMTP": "454 4.7.0 ", "IMAP": "a NO "}
)

// secure connects to a listener with implicit TLS.
func (p *process) secure(listener, from string) (net.Conn, error) {
	raw, err := dialFrom(p.addresses[listener], from)
	if err != nil {
		return nil, err
	}
	return tls.Client(raw, insecure), nil
}

func (p *process) loginSMTP(from, user, secret string) (string, error) {
	conn, err := p.secure("submission", from)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	s, err := greet(conn)
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.reply, nil
	}
	if err != nil {
		return "", err
	}
	if err := s.succeed("EHLO client.example.org"); err != nil {
		return "", err
	}
	return s.command("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+secret)))
}

func (p *process) loginIMAP(from, user, secret string) (string, error) {
	conn, err := p.secure("imaps", from)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return logInOver(conn, user, secret)
}

// logInOver logs in by IMAP over a connection.
func logInOver(conn net.Conn, user, secret string) (string, error) {
	lines := bufio.NewReader(conn)
	for sent := false; ; {
		line, err := lines.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		switch {
		case err != nil:
			return line, err
		case strings.HasPrefix(line, "a ") || strings.HasPrefix(line, "* BYE "):
			return line, nil
		case !sent:
			sent = true
			if _, err := fmt.Fprintf(conn, "a LOGIN %q %q\r\n", user, secret); err != nil {
				return "", err
			}
		}
	}
}

// answers logs in and compares the beginning of the answer.
func (p *process) answers(t *testing.T, protocol, from, user, secret string, want map[string]string) {
	t.Helper()
	reply, err := logins[protocol](p, from, user, secret)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("log in by %s from %s as %s: %v", protocol, from, user, err)
	}
	if !strings.HasPrefix(reply, want[protocol]) {
		t.Errorf("log in by %s from %s as %s with %q: the server answers %q, not %q", protocol, from, user, secret, reply, want[protocol])
	}
}

// swaksLogin logs in by swaks, and gives its exit status and the dialog.
func (p *process) swaksLogin(t *testing.T, from, user, secret string) result {
	t.Helper()
	return swaks(t, "--server", p.address(t, "submission"), "--tlsc", "--local-interface", from,
		"--auth", "PLAIN", "--auth-user", user, "--auth-password", secret, "--quit-after", "AUTH")
}

// curlLogin logs in by curl, and gives its exit status.
func (p *process) curlLogin(t *testing.T, from, user, secret string) int {
	t.Helper()
	return run(t, command(t, daemon.Program(t, "curl"), "--silent", "--insecure", "--max-time", "20", "--interface", from,
		"--user", user+":"+secret, "imaps://"+p.address(t, "imaps")+"/")).code
}
