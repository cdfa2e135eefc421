package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
)

const (
	// udpSize is the size of answers that fits through every path without being
	// cut into fragments, which can be forged (DNS flag day 2020).
	udpSize = 1232
	// maxUDP is what is read of a packet; servers may exceed udpSize.
	maxUDP = 4096
	// maxStrays is how many packets are passed over that do not answer the question.
	// Beyond it somebody guesses, and the question is asked by TCP.
	maxStrays = 20
)

// errStrays is returned when too many packets came that answer something else.
var errStrays = errors.New("too many packets that answer another question")

// isTimeout tells whether an error is only about time.
func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// exchange asks one server, by UDP and, if the answer does not fit, by TCP.
func (r *Resolver) exchange(ctx context.Context, server Server, q question, timeout time.Duration) (*miekg.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	reply, err := roundTrip(ctx, server, newQuery(q, true))
	if err == nil && lacksEDNS(reply) {
		reply, err = roundTrip(ctx, server, newQuery(q, false))
	}
	switch {
	case err == nil:
		return reply, nil
	case errors.Is(context.Cause(ctx), context.Canceled):
		return nil, context.Canceled
	case isTimeout(err):
		return nil, fmt.Errorf("no answer in %s: %w", timeout, context.DeadlineExceeded)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err // the address is told anyway
	}
	return nil, err
}

// roundTrip sends a query by UDP, and by TCP if the answer is truncated or if
// somebody seems to forge it.
func roundTrip(ctx context.Context, server Server, query *miekg.Msg) (*miekg.Msg, error) {
	reply, err := overUDP(ctx, server, query)
	if err != nil && !errors.Is(err, errStrays) || err == nil && !reply.Truncated {
		return reply, err
	}
	query.Id = newID()
	return overTCP(ctx, server, query)
}

// newQuery makes the message with a question. edns asks for longer answers, and
// for DNSSEC (RFC 6891, RFC 3225).
func newQuery(q question, edns bool) *miekg.Msg {
	m := new(miekg.Msg)
	m.Id = newID()
	m.RecursionDesired = true
	m.Question = []miekg.Question{{Name: q.name + ".", Qtype: uint16(q.typ), Qclass: miekg.ClassINET}}
	if edns {
		m.SetEdns0(udpSize, true)
	}
	return m
}

// newID gives an ID that nobody can guess (RFC 5452 section 9.2). The port is
// the system's choice, another one for each question.
func newID() uint16 {
	var id [2]byte
	rand.Read(id[:])
	return binary.BigEndian.Uint16(id[:])
}

// lacksEDNS tells whether a server refuses since it does not know EDNS (RFC 6891
// section 7).
func lacksEDNS(reply *miekg.Msg) bool {
	return (reply.Rcode == miekg.RcodeFormatError || reply.Rcode == miekg.RcodeNotImplemented) && reply.IsEdns0() == nil
}

// connect opens a connection that ends with ctx. A UDP socket that is connected
// takes packets from that server alone.
func connect(ctx context.Context, network string, server Server) (net.Conn, func(), error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		conn.Close()
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, func() { stop(); conn.Close() }, nil
}

// overUDP sends a query in a packet and waits for the one that answers it.
// Others are passed over (RFC 5452 section 9.1).
func overUDP(ctx context.Context, server Server, query *miekg.Msg) (*miekg.Msg, error) {
	conn, closeConn, err := connect(ctx, "udp", server)
	if err != nil {
		return nil, ended(ctx, err)
	}
	defer closeConn()
	packet, err := query.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, ended(ctx, err)
	}
	buf := make([]byte, maxUDP)
	for range maxStrays {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, ended(ctx, err)
		}
		if reply, err := parseReply(buf[:n], query); err == nil {
			return reply, nil
		}
	}
	return nil, errStrays
}

// overTCP sends a query on a connection of its own (RFC 7766).
func overTCP(ctx context.Context, server Server, query *miekg.Msg) (*miekg.Msg, error) {
	conn, closeConn, err := connect(ctx, "tcp", server)
	if err != nil {
		return nil, ended(ctx, err)
	}
	defer closeConn()
	packet, err := query.Pack()
	if err != nil {
		return nil, err
	}
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(packet)), uint16(len(packet)))
	if _, err := conn.Write(append(framed, packet...)); err != nil {
		return nil, ended(ctx, err)
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, ended(ctx, fmt.Errorf("read answer by TCP: %w", err))
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, ended(ctx, fmt.Errorf("read answer by TCP: %w", err))
	}
	reply, err := parseReply(buf, query)
	if err != nil {
		return nil, fmt.Errorf("read answer by TCP: %w", err)
	}
	return reply, nil
}

// ended gives the reason why ctx ended if it did, else the error.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// parseReply reads a message and refuses what does not answer the query (RFC
// 5452 section 9.1).
func parseReply(packet []byte, query *miekg.Msg) (*miekg.Msg, error) {
	reply := new(miekg.Msg)
	err := reply.Unpack(packet)
	switch {
	case len(packet) < 12 || reply.Id != query.Id || !reply.Response || reply.Opcode != miekg.OpcodeQuery:
		return nil, errors.New("it is no answer to this question")
	case len(reply.Question) == 0 && lacksEDNS(reply) && query.IsEdns0() != nil:
		return reply, nil // some servers repeat nothing of what they cannot read
	case len(reply.Question) != 1 || !sameQuestion(reply.Question[0], query.Question[0]):
		return nil, errors.New("it answers another question")
	case err != nil && !reply.Truncated:
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	return reply, nil
}

func sameQuestion(a, b miekg.Question) bool {
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}
