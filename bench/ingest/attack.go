package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
)

// attacked is mox-like while many guess the password of its user at the
// submission listener. The attackers run in this process and take processor time
// from the server too, as the load does.
type attacked struct {
	*moxLike
	end     context.CancelFunc
	attacks sync.WaitGroup
}

func startAttacked(ctx context.Context, binary, dir string, attackers int) (instance, error) {
	server, err := startMoxLike(ctx, binary, dir, plainChain, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	a := &attacked{moxLike: server}
	attack, end := context.WithCancel(context.WithoutCancel(ctx))
	a.end = end
	for n := range attackers {
		a.attacks.Go(func() {
			for i := 0; attack.Err() == nil; i++ {
				// A session that the server ends is followed by the next one.
				_ = server.guess(attack, fmt.Sprintf("guess %d of %d", i, n))
			}
		})
	}
	return a, nil
}

// stop ends the attack, then the server.
func (a *attacked) stop() error {
	a.end()
	a.attacks.Wait()
	return a.moxLike.stop()
}

// guess tries a password on one connection until the server ends it.
func (m *moxLike) guess(ctx context.Context, password string) error {
	conn, err := m.dial(ctx, m.submission)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + recipient + "\x00" + password))
	if _, err := fmt.Fprintf(conn, "EHLO attacker.example.org\r\n"); err != nil {
		return err
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		line := lines.Text()
		if len(line) > 3 && line[3] == '-' || strings.HasPrefix(line, "220 ") {
			continue
		}
		if _, err := fmt.Fprintf(conn, "AUTH PLAIN %s\r\n", plain); err != nil {
			return err
		}
	}
	return nil
}
