package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"time"
)

// step is what is timed.
type step int

const (
	stepConnect     step = iota // from the call to the end of the greeting
	stepEHLO                    // each command until its reply
	stepMAIL                    //
	stepRCPT                    //
	stepDATA                    // until 354
	stepMessage                 // the message itself, until it is durable
	stepQUIT                    //
	stepTransaction             // from MAIL until the message is durable
	stepWhole                   // from the connection on, where each message has one
	numSteps        = iota
)

var stepNames = [numSteps]string{
	"connect and greeting", "EHLO", "MAIL", "RCPT", "DATA", "message", "QUIT", "transaction", "transaction with connection",
}

// client is one session's worth of load.
type client struct {
	o        *options
	messages int
	times    [numSteps][]time.Duration

	conn    net.Conn
	release func() bool // ends the watch that closes conn when the context ends
	reply   []byte

	ehlo, mail, rcpt, data, message, quit []byte
}

func newClient(o *options, messages int) *client {
	c := &client{
		o: o, messages: messages, reply: make([]byte, 4096),
		ehlo:    []byte("EHLO client.example.org\r\n"),
		mail:    []byte("MAIL FROM:<" + o.reversePath + ">\r\n"),
		rcpt:    []byte("RCPT TO:<" + o.recipient + ">\r\n"),
		data:    []byte("DATA\r\n"),
		message: newMessage(o),
		quit:    []byte("QUIT\r\n"),
	}
	for s := range c.times {
		c.times[s] = make([]time.Duration, 0, messages)
	}
	return c
}

// newMessage makes a message of the size that is asked for, with the final dot.
func newMessage(o *options) []byte {
	const line = "Some text that stands in a message and is as long as most.\r\n"
	b := []byte("From: <" + o.reversePath + ">\r\nTo: <" + o.recipient + ">\r\nSubject: Load\r\n\r\n")
	for len(b)+len(line) <= o.size {
		b = append(b, line...)
	}
	if left := o.size - len(b); left > 2 {
		b = append(append(b, bytes.Repeat([]byte("x"), left-2)...), "\r\n"...)
	}
	return append(b, ".\r\n"...)
}

// run sends the messages.
func (c *client) run(ctx context.Context) error {
	var began time.Time
	for sent := range c.messages {
		if c.conn == nil {
			began = time.Now()
			if err := c.connect(ctx); err != nil {
				return first(ctx.Err(), err)
			}
		}
		if err := c.transaction(); err != nil {
			return fmt.Errorf("message %d: %w", sent+1, first(ctx.Err(), err))
		}
		if !c.o.reuse {
			c.times[stepWhole] = append(c.times[stepWhole], time.Since(began))
		}
		if !c.o.reuse || sent == c.messages-1 {
			if err := c.disconnect(); err != nil {
				return first(ctx.Err(), err)
			}
		}
	}
	return nil
}

// first gives the error that explains the other.
func first(cause, err error) error {
	if cause != nil {
		return cause
	}
	return err
}

func (c *client) connect(ctx context.Context) error {
	began := time.Now()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", c.o.address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.conn = conn
	c.release = context.AfterFunc(ctx, func() { conn.Close() })
	if err := c.expect("greeting", '2'); err != nil {
		return err
	}
	c.times[stepConnect] = append(c.times[stepConnect], time.Since(began))
	return c.command(stepEHLO, c.ehlo, '2')
}

func (c *client) disconnect() error {
	err := c.command(stepQUIT, c.quit, '2')
	c.release()
	c.conn.Close()
	c.conn = nil
	return err
}

func (c *client) transaction() error {
	began := time.Now()
	if err := c.command(stepMAIL, c.mail, '2'); err != nil {
		return err
	}
	if err := c.command(stepRCPT, c.rcpt, '2'); err != nil {
		return err
	}
	if err := c.command(stepDATA, c.data, '3'); err != nil {
		return err
	}
	if err := c.command(stepMessage, c.message, '2'); err != nil {
		return err
	}
	c.times[stepTransaction] = append(c.times[stepTransaction], time.Since(began))
	return nil
}

// command writes and waits for a reply of that class.
func (c *client) command(s step, text []byte, class byte) error {
	began := time.Now()
	if _, err := c.conn.Write(text); err != nil {
		return fmt.Errorf("%s: %w", stepNames[s], err)
	}
	if err := c.expect(stepNames[s], class); err != nil {
		return err
	}
	c.times[s] = append(c.times[s], time.Since(began))
	return nil
}

// expect reads one reply, which may have several lines (RFC 5321 section 4.2.1).
func (c *client) expect(what string, class byte) error {
	n := 0
	for {
		if n == len(c.reply) {
			return fmt.Errorf("%s: the reply is longer than %d bytes", what, n)
		}
		read, err := c.conn.Read(c.reply[n:])
		if err != nil {
			return fmt.Errorf("%s: read reply: %w", what, err)
		}
		n += read
		if text := c.reply[:n]; complete(text) {
			if text[0] != class {
				return fmt.Errorf("%s: the server answers %q", what, bytes.TrimSpace(text))
			}
			return nil
		}
	}
}

// complete tells whether text ends in the last line of a reply: one with a space
// after the code.
func complete(text []byte) bool {
	if !bytes.HasSuffix(text, []byte("\r\n")) {
		return false
	}
	last := text[bytes.LastIndexByte(text[:len(text)-2], '\n')+1:]
	return len(last) >= 5 && last[3] != '-'
}
