package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// load is many messages at once by one listener.
type load struct {
	name     string
	address  string
	from     string
	messages int
	body     []byte
	head     func(n int) (string, error)
	login    bool   // over TLS from the first byte on
	first    string // what a stored message must have before what was sent
}

// gate opens once all have arrived at it, or when one has given up.
type gate struct {
	mu   sync.Mutex
	left int
	open chan struct{}
}

func newGate(n int) *gate { return &gate{left: n, open: make(chan struct{})} }

func (g *gate) arrive() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left--; g.left == 0 {
		close(g.open)
	}
}

// send sends all messages. Each sends all but its end, waits until all have, and
// then ends.
func (l *load) send(ctx context.Context, roots *tls.Config) (longest time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	together := newGate(l.messages)
	errs := make([]error, l.messages)
	took := make([]time.Duration, l.messages)
	var wg sync.WaitGroup
	for n := range l.messages {
		wg.Go(func() {
			if took[n], errs[n] = l.one(ctx, roots, n, together); errs[n] != nil {
				errs[n] = fmt.Errorf("message %d: %w", n, errs[n])
				cancel()
			}
		})
	}
	wg.Wait()
	for _, d := range took {
		longest = max(longest, d)
	}
	return longest, errors.Join(errs...)
}

// one sends one message, and gives how long the server took to answer to its end.
func (l *load) one(ctx context.Context, roots *tls.Config, n int, together *gate) (time.Duration, error) {
	head, err := l.head(n)
	if err != nil {
		return 0, err
	}
	conn, err := l.dial(ctx, roots)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	c := &client{conn, bufio.NewReader(conn)}
	commands := []string{"", "EHLO client.example.org", "MAIL FROM:<" + l.from + ">", "RCPT TO:<" + recipient + ">", "DATA"}
	if l.login {
		commands = append(commands[:2], append([]string{"AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+l.from+"\x00"+password))}, commands[2:]...)...)
	}
	for _, command := range commands {
		if err := c.say(command); err != nil {
			return 0, err
		}
	}
	if _, err := io.WriteString(conn, head); err != nil {
		return 0, err
	}
	if _, err := conn.Write(l.body); err != nil {
		return 0, err
	}
	together.arrive()
	select {
	case <-together.open:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	began := time.Now()
	if err := c.say("."); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, c.say("QUIT")
}

func (l *load) dial(ctx context.Context, roots *tls.Config) (net.Conn, error) {
	if l.login {
		return (&tls.Dialer{Config: roots}).DialContext(ctx, "tcp", l.address)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", l.address)
}

// client speaks SMTP.
type client struct {
	conn  net.Conn
	lines *bufio.Reader
}

// say gives a command, "" for none, and waits for a positive reply.
func (c *client) say(command string) error {
	if command != "" {
		if _, err := io.WriteString(c.conn, command+"\r\n"); err != nil {
			return err
		}
	}
	verb, _, _ := strings.Cut(command, " ")
	for {
		line, err := c.lines.ReadString('\n')
		switch {
		case err != nil:
			return fmt.Errorf("read reply to %q: %w", verb, err)
		case len(line) < 4 || line[0] > '3':
			return fmt.Errorf("the server answers to %q: %s", verb, strings.TrimSpace(line))
		case line[3] != '-':
			return nil
		}
	}
}

// sum is the hash of a whole message.
func (l *load) sum(head string) [32]byte {
	h := sha256.New()
	_, _ = io.WriteString(h, head) // a hash takes all
	_, _ = h.Write(l.body)
	return [32]byte(h.Sum(nil))
}
