package hook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/mail"
)

// HTTP has a web service decide: the request is sent by POST, and the answer must
// be 200 with the verdict as application/json. Redirects are not followed. Another
// status, a broken connection or an answer that comes too late is no verdict, and
// on_error says what that means. See docs/hooks.md for the form of both.
type HTTP struct {
	Settings
	// URL is where the service is, http or https. Certificates are verified.
	URL string `config:"url,required,fileonly" example:"https://judge.example.org/verdict"`
	// Socket is the path of a Unix socket on which the service listens; the host in
	// url then only stands in the request. A relative path stands beside the
	// configuration file.
	Socket string `config:"socket,fileonly"`
	// CA is a file of certificates in PEM: the service's must be signed by one of
	// them. Without it those of the system count.
	CA string `config:"ca,fileonly"`
	// Headers are further header fields of the request. A password belongs into
	// env("NAME").
	Headers map[string]mail.Secret `config:"headers,fileonly"`
	// Secret, of at least 16 bytes, signs each request: X-Mox-Like-Signature is the
	// HMAC-SHA256 in hex of X-Mox-Like-Timestamp, a full stop and the body.
	Secret mail.Secret `config:"secret,fileonly"`
	// MaxRequests is how many are under way at once for this server; others wait,
	// for half of timeout, and are then deferred.
	MaxRequests int `config:"max_requests,fileonly" default:"32" min:"1" max:"10000"`

	target *url.URL // nil if url is none
	roots  *x509.CertPool
	caErr  error
	judge  *judge
}

// Module describes the handler.
func (*HTTP) Module() core.Info {
	return core.Info{
		ID: "handler.http", Looks: []string{"ca", "socket"}, Stages: actsAt, StageAttribute: true, DefaultStages: mail.AtData, Edits: true,
		Timeout: defaultTimeout, New: func() core.Module { return new(HTTP) },
	}
}

// Provision prepares the client. Its connections are shared with all handlers
// that reach services in the same way.
func (h *HTTP) Provision(c *core.Context) error {
	target, err := url.Parse(h.URL)
	if err != nil {
		return nil //nolint:nilerr // Validate tells it, with its place
	}
	h.target = target
	if h.Socket != "" {
		h.Socket = c.Path(h.Socket)
	}
	roots := "" // those of the system
	if h.CA != "" {
		h.CA = c.Path(h.CA)
		h.roots, roots, h.caErr = readRoots(h.CA)
	}
	shared, err := core.Shared(c, "hook/http/"+h.Socket+"/"+roots, func() (*pool, error) { return newPool(h.Socket, h.roots), nil })
	if err != nil {
		return err
	}
	service := &service{url: target, headers: h.Headers, secret: []byte(h.Secret.Reveal()), pool: shared, now: c.Now()}
	h.judge, err = newJudge(c, h.Settings, "http "+h.Socket+" "+h.URL, h.MaxRequests, service)
	return err
}

// maxCA bounds the file of certificates.
const maxCA = 1 << 20

// readRoots reads certificates, and tells by a hash which they are, since a file
// can be replaced.
func readRoots(name string) (roots *x509.CertPool, hash string, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxCA {
		return nil, "", fmt.Errorf("%s is not a regular file of at most %d bytes", name, maxCA)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, "", err
	}
	roots = x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, "", fmt.Errorf("%s has no certificate in PEM", name)
	}
	sum := sha256.Sum256(text)
	return roots, hex.EncodeToString(sum[:]), nil
}

// Limits of settings.
const (
	minSecret = 16
	// maxSocketPath is the longest path of a Unix socket on Linux: sun_path has 108
	// bytes with the final zero (unix(7)).
	maxSocketPath = 107
)

// Validate checks the settings.
func (h *HTTP) Validate() core.Problems {
	var problems core.Problems
	switch {
	case h.target == nil || h.target.Host == "" || h.target.Scheme != "http" && h.target.Scheme != "https":
		problems.Errorf("url", "the url is not one of http or https: write it in full, such as \"https://judge.example.org/verdict\"")
	case h.target.User != nil:
		problems.Errorf("url", "the url has a user name: write headers = { \"Authorization\" = env(\"NAME\") } instead, so that no log shows it")
	case h.target.Fragment != "":
		problems.Errorf("url", "the url has a fragment, which is never sent: leave out what follows the #")
	}
	if len(h.Socket) > maxSocketPath {
		problems.Errorf("socket", "the socket path %s has %d bytes; the system allows %d", h.Socket, len(h.Socket), maxSocketPath)
	}
	if h.caErr != nil {
		problems.Errorf("ca", "read certificates: %v", h.caErr)
	}
	if h.Secret != "" && len(h.Secret) < minSecret {
		problems.Errorf("secret", "the secret has %d bytes and needs %d: make one with: openssl rand -hex 32", len(h.Secret), minSecret)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		if fault := headerFault(name, h.Headers[name].Reveal()); fault != "" {
			problems.Errorf("headers", "the header field %.80q %s", name, fault)
		}
	}
	return problems
}

// ownHeaders are set by the handler or by HTTP itself.
var ownHeaders = [...]string{"content-type", "content-length", "transfer-encoding", "connection", "host", "te", "trailer", "upgrade", "accept", "accept-encoding", "idempotency-key"}

// headerFault tells what is wrong with a header field of the request, without its
// value, which may be secret.
func headerFault(name, value string) string {
	lower := strings.ToLower(name)
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return "is no name of a field"
	case slices.Contains(ownHeaders[:], lower), strings.HasPrefix(lower, reservedFields):
		return "is set by the server itself: leave it out"
	case !httpguts.ValidHeaderFieldValue(value):
		return "has a value with control characters"
	}
	return ""
}

// Handle has the service judge.
func (h *HTTP) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	return h.judge.handle(ctx, tx)
}

// pool keeps connections to services.
type pool struct{ client *http.Client }

const (
	idlePerHost     = 32
	idleFor         = 90 * time.Second
	maxReplyHeaders = 64 << 10
)

func newPool(socket string, roots *x509.CertPool) *pool {
	transport := &http.Transport{
		MaxIdleConnsPerHost: idlePerHost, IdleConnTimeout: idleFor, MaxResponseHeaderBytes: maxReplyHeaders,
		DisableCompression: true,
		TLSClientConfig:    &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
	}
	if socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	return &pool{&http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the connections that nobody uses.
func (p *pool) Close() error {
	p.client.CloseIdleConnections()
	return nil
}

// service sends requests to a web service.
type service struct {
	url     *url.URL
	headers map[string]mail.Secret
	secret  []byte
	pool    *pool
	now     func() time.Time
}

// ask posts the request. Errors name the service without what stands behind the ?
// of its URL, which may be secret.
func (s *service) ask(ctx context.Context, request []byte) ([]byte, error) {
	answer, err := s.post(ctx, request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("ask %s://%s%s: %w", s.url.Scheme, s.url.Host, s.url.EscapedPath(), err)
	}
	return answer, nil
}

func (s *service) post(ctx context.Context, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range s.headers {
		request.Header.Set(name, value.Reveal())
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	// Without a value it is not sent: it lets net/http ask again over a new
	// connection when the service has closed one that was kept.
	request.Header["Idempotency-Key"] = []string{}
	s.sign(request.Header, body)
	response, err := s.pool.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); {
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the status is %d and should be 200", response.StatusCode)
	case err != nil:
		return nil, err
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	case media != "application/json":
		return nil, fmt.Errorf("the answer's Content-Type is %.80q and should be application/json", mail.Printable(media, maxTag))
	}
	return answer, nil
}

// sign lets the service see that the request is from here and new.
func (s *service) sign(header http.Header, body []byte) {
	if len(s.secret) == 0 {
		return
	}
	timestamp := strconv.FormatInt(s.now().Unix(), 10)
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	header.Set("X-Mox-Like-Timestamp", timestamp)
	header.Set("X-Mox-Like-Signature", hex.EncodeToString(mac.Sum(nil)))
}

var (
	_ core.Provisioner = (*HTTP)(nil)
	_ core.Validator   = (*HTTP)(nil)
	_ core.Handler     = (*HTTP)(nil)
)
