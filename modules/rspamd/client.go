package rspamd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/core/mail"
)

// Bounds of an answer. Real ones have a few KB, but the sender has a say in that: it
// lists the URLs and addresses of the message.
const (
	maxAnswer       = 4 << 20  // bytes that are kept
	maxRead         = 32 << 20 // bytes in all
	maxAnswerFields = 16 << 10
)

// pool keeps connections to one worker, as long as that keeps them.
type pool struct{ client *http.Client }

const (
	idlePerHost = 32
	idleFor     = 30 * time.Second
)

func newPool(address backend.Address, connectTimeout time.Duration) *pool {
	dialer := &net.Dialer{Timeout: connectTimeout}
	return &pool{&http.Client{
		Transport: &http.Transport{
			MaxIdleConnsPerHost: idlePerHost, IdleConnTimeout: idleFor, MaxResponseHeaderBytes: maxAnswerFields,
			DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, address.Network, address.Name)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the connections that nobody uses.
func (p *pool) Close() error {
	p.client.CloseIdleConnections()
	return nil
}

// server is a worker of rspamd's that is asked.
type server struct {
	address  backend.Address
	pool     *pool
	password mail.Secret
}

// content is a message that can be read several times.
type content struct {
	size int64
	open func() io.Reader
}

// response is what a worker has said.
type response struct {
	code   int
	status string // with the code
	body   []byte
}

// post sends a message. What a worker says is read by read, or readAll where it has
// refused the command. Post returns with ctx, and reads nothing of the message any
// more once it has.
func (s server) post(ctx context.Context, command string, fields http.Header, message content, read func(io.Reader) ([]byte, error)) (response, error) {
	source := &source{open: message.open}
	defer source.close()
	host := "localhost"
	if s.address.Network == "tcp" {
		host = s.address.Name
	}
	target := url.URL{Scheme: "http", Host: host, Path: "/" + command}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), source.stream())
	if err != nil {
		return response{}, s.explain(ctx, err)
	}
	request.ContentLength, request.Header = message.size, fields
	// An old connection may have ended: these two let net/http take a new one. The
	// field has no value, so it is not sent.
	request.GetBody = func() (io.ReadCloser, error) { return source.stream(), nil }
	fields["Idempotency-Key"] = []string{}
	fields.Set("User-Agent", "mox-like")
	if s.password != "" {
		fields.Set("Password", s.password.Reveal())
	}
	answer, err := s.pool.client.Do(request)
	if err != nil {
		return response{}, s.explain(ctx, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		read = readAll
	}
	body, err := read(answer.Body)
	if err != nil {
		return response{}, s.explain(ctx, err)
	}
	return response{code: answer.StatusCode, status: answer.Status, body: body}, nil
}

// maxSaid bounds an answer other than to /checkv2.
const maxSaid = 1 << 20

// readAll reads a short answer.
func readAll(in io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(in, maxSaid+1))
	if err == nil && len(body) > maxSaid {
		err = fmt.Errorf("its answer is longer than %d bytes", maxSaid)
	}
	return body, err
}

// explain says what was tried.
func (s server) explain(ctx context.Context, err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	network, isNetwork := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("ask rspamd at %s: %w; rspamd hangs, or the time limit is too short", s.address, ctx.Err())
	case ctx.Err() != nil:
		return fmt.Errorf("ask rspamd at %s: %w", s.address, ctx.Err())
	case isNetwork && network.Op == "dial":
		return fmt.Errorf("connect to rspamd at %s: %w; check that rspamd runs and listens there", s.address, err)
	}
	if _, isForm := errors.AsType[formError](err); isForm {
		return fmt.Errorf("read answer of rspamd at %s: %w; is it a normal worker that listens there?", s.address, err)
	}
	return fmt.Errorf("ask rspamd at %s: %w", s.address, err)
}

// source gives readers of a message until it is closed. Net/http may go on to read
// a body after it has given an error, and the message is the caller's.
type source struct {
	open func() io.Reader

	mu     sync.Mutex
	closed bool // guarded by mu
}

var errClosed = errors.New("the request is over")

func (s *source) stream() io.ReadCloser { return io.NopCloser(&stream{source: s, in: s.open()}) }

func (s *source) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

type stream struct {
	source *source
	in     io.Reader
}

// Read reads under the lock; what is read is in memory or in a file.
func (s *stream) Read(p []byte) (int, error) {
	s.source.mu.Lock()
	defer s.source.mu.Unlock()
	if s.source.closed {
		return 0, errClosed
	}
	return s.in.Read(p)
}

// client asks one rspamd about messages. It is safe for concurrent use.
type client struct {
	server server
	gate   *backend.Gate
}

// check has rspamd judge a message of a client's network. It ends when ctx does;
// the error is backend.ErrBusy when rspamd could not be asked in time, and errTooMuch
// if that is the message's fault.
func (c *client) check(ctx context.Context, network netip.Prefix, fields http.Header, message *mail.Rendering) (answer, error) {
	if err := c.gate.Enter(ctx, network); err != nil {
		return answer{}, fmt.Errorf("wait for rspamd at %s: %w", c.server.address, err)
	}
	defer c.gate.Leave()
	said, err := c.server.post(ctx, "checkv2", fields, content{message.Size(), message.Reader}, extract)
	if err != nil {
		return answer{}, err
	}
	switch said.code {
	case http.StatusOK:
	case http.StatusRequestEntityTooLarge:
		return answer{}, fmt.Errorf("%w: rspamd at %s: %w", errTooLarge, c.server.address, said.fault())
	default:
		return answer{}, fmt.Errorf("ask rspamd at %s: %w", c.server.address, said.fault())
	}
	found, err := parseAnswer(said.body)
	if err != nil {
		return answer{}, c.server.explain(ctx, err)
	}
	return found, nil
}
