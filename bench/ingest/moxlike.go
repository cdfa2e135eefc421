package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/bench/proc"
)

// moxLike is this project's server with a chain that counts, judges and
// delivers, and an IMAP listener by which what has arrived is counted.
type moxLike struct {
	*process
	imap       string
	submission string
	data       string
}

const password = "correct horse battery staple"

const moxLikeConfig = `server {
  hostname = "{hostname}"
  data_dir = "{dir}/data"

  drain_timeout = "2s" # of those who wait for their password to be hashed
}

store "sqlite" {}

tls "self_signed" {}

listener "smtp" "mx" {
  address = "{smtp}"
  tls     = "off"

  limits {
    commands                = 1000000 # smtp-source sends all its messages on one connection
    connections_per_network = 1000
  }
  chain {
{chain}    deliver {}
  }
}

listener "smtp" "submission" {
  address = "{submission}"
  tls     = "implicit"
  auth    = "required"

  limits {
    connections_per_network = 1000
  }
  chain {
    password {}
    deliver {}
  }
}

listener "imap" "imap" {
  address = "{imap}"

  chain {
    password {}
  }
}

domain "example.test" {}
`

// plainChain counts and delivers.
const plainChain = `    ratelimit {
      key   = "ip"
      limit = "1000000/1s"
    }
`

func startMoxLike(ctx context.Context, binary, dir, chain, host string) (*moxLike, error) {
	var free [3]string
	for i, at := range []string{host, "127.0.0.1", "127.0.0.1"} {
		var err error
		if free[i], err = proc.FreeAddress(ctx, at); err != nil {
			return nil, err
		}
	}
	smtp, imap, submission := free[0], free[1], free[2]
	config := filepath.Join(dir, "mox-like.hcl")
	settings := strings.NewReplacer("{dir}", dir, "{hostname}", hostname, "{smtp}", smtp, "{imap}", imap, "{submission}", submission, "{chain}", chain)
	if err := os.WriteFile(config, []byte(settings.Replace(moxLikeConfig)), 0o600); err != nil {
		return nil, err
	}
	add := command(ctx, binary, "user", "add", recipient, "--password-stdin", "--config", config)
	add.Stdin = strings.NewReader(password + "\n")
	if output, err := add.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("add user: %w: %s", err, bytes.TrimSpace(output))
	}
	p, err := launch(ctx, filepath.Join(dir, "mox-like.log"), smtp, greets, binary, "run", "--config", config)
	if err != nil {
		return nil, fmt.Errorf("run mox-like: %w", err)
	}
	return &moxLike{process: p, imap: imap, submission: submission, data: filepath.Join(dir, "data")}, nil
}

// settle has nothing to wait for: what is accepted is stored.
func (*moxLike) settle(context.Context) error { return nil }

// stored asks by IMAP how many messages the inbox has.
func (m *moxLike) stored(ctx context.Context, n int) error {
	dialog, err := m.ask(ctx, "b STATUS INBOX (MESSAGES)")
	if err != nil {
		return err
	}
	if !strings.Contains(dialog, fmt.Sprintf("(MESSAGES %d)", n)) {
		return fmt.Errorf("want %d, the server says\n%s", n, dialog)
	}
	return nil
}

// first gives the header section of the first message.
func (m *moxLike) first(ctx context.Context) ([]byte, error) {
	dialog, err := m.ask(ctx, "b EXAMINE INBOX", "c FETCH 1 BODY.PEEK[HEADER]")
	return []byte(dialog), err
}

// ask says commands to the IMAP listener and gives all that it answers.
func (m *moxLike) ask(ctx context.Context, commands ...string) (string, error) {
	conn, err := m.dial(ctx, m.imap)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	dialog, lines := new(strings.Builder), bufio.NewScanner(conn)
	login := fmt.Sprintf("a LOGIN %s %q", recipient, password)
	for _, command := range slices.Concat([]string{login}, commands, []string{"z LOGOUT"}) {
		if _, err := fmt.Fprint(conn, command, "\r\n"); err != nil {
			return "", err
		}
		for done := false; !done && lines.Scan(); {
			fmt.Fprintln(dialog, lines.Text())
			done = strings.HasPrefix(lines.Text(), command[:2])
		}
	}
	return dialog.String(), nil
}

// dial connects to one of the server's addresses by TLS, and checks its
// certificate.
func (m *moxLike) dial(ctx context.Context, address string) (net.Conn, error) {
	certificate, err := os.ReadFile(filepath.Join(m.data, "tls", "self_signed.crt")) //nolint:gosec // the directory is our own
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: hostname}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}
