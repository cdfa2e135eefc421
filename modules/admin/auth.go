package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/connections"
	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/logkey"
)

// token is a Token as requests are held against it.
type token struct {
	name  string
	hash  [sha256.Size]byte
	write bool
}

// newToken prepares one; what Validate refuses lets nobody in.
func newToken(t Token) token {
	made := token{name: t.Name, write: t.Scope == "write", hash: sha256.Sum256([]byte(t.Secret.Reveal()))}
	if hash, err := hex.DecodeString(t.SHA256); t.Secret == "" && err == nil {
		copy(made.hash[:], hash)
	}
	return made
}

type actorKey struct{}

// actorOf gives who makes a request that local or remote has let in.
func actorOf(r *http.Request) control.Actor {
	a, _ := r.Context().Value(actorKey{}).(control.Actor)
	return a
}

type readOnlyKey struct{}

// readOnly tells whether the client of a request may look only.
func readOnly(r *http.Request) bool { return r.Context().Value(readOnlyKey{}) != nil }

func withActor(r *http.Request, a control.Actor) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), actorKey{}, a))
}

// local lets in who could open the socket.
func (*Listener) local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, withActor(r, control.Actor{Name: control.Peer(r.Context()), Via: control.ViaAPI}))
	})
}

// remote lets in who shows a certificate or a token.
func (l *Listener) remote(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ip := remoteIP(r.RemoteAddr)
		actor := control.Actor{Via: control.ViaAPI, Address: ip.String()}
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			actor.Name = fmt.Sprintf("certificate %s", r.TLS.VerifiedChains[0][0].Subject)
			next.ServeHTTP(w, withActor(r, actor))
			return
		}
		known, ok := l.known(w, r, ip)
		if !ok {
			return
		}
		actor.Name = fmt.Sprintf("token %q", known.name)
		r = withActor(r, actor)
		if !known.write {
			r = r.WithContext(context.WithValue(r.Context(), readOnlyKey{}, true))
		}
		next.ServeHTTP(w, r)
	})
}

// known finds the token of a request, or answers it.
func (l *Listener) known(w http.ResponseWriter, r *http.Request, ip netip.Addr) (token, bool) {
	network := connections.NetworkOf(ip)
	if wait := l.failures.wait(network, l.Limits.AuthFailures, l.now()); wait > 0 {
		leave(w)
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		l.refuse(w, http.StatusTooManyRequests, "too-many-failures", "too many wrong tokens came from this network: try again later")
		return token{}, false
	}
	kind, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if found, ok := l.find(strings.TrimSpace(shown)); ok && strings.EqualFold(kind, "Bearer") {
		return found, true
	}
	if shown != "" {
		l.failures.add(network, l.now())
		l.log.Info("wrong token", zap.String(logkey.Listener, l.name), zap.Stringer(logkey.RemoteIP, ip))
	}
	leave(w)
	w.Header().Set("WWW-Authenticate", "Bearer")
	l.refuse(w, http.StatusUnauthorized, "unauthorized", "show a token of this listener: Authorization: Bearer SECRET")
	return token{}, false
}

// find compares a secret with all tokens, in the same time whichever it is.
func (l *Listener) find(secret string) (found token, ok bool) {
	hash := sha256.Sum256([]byte(secret))
	for _, t := range l.tokens {
		if subtle.ConstantTimeCompare(t.hash[:], hash[:]) == 1 {
			found, ok = t, true
		}
	}
	return found, ok && secret != ""
}

// remoteIP gives the address of a client, the zero Addr for a Unix socket.
func remoteIP(address string) netip.Addr {
	p, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap()
}

// failureWindow is the time within which wrong tokens count.
const failureWindow = time.Minute

// maxFailures bounds how many networks are remembered.
const maxFailures = 10_000

// failures counts wrong tokens by network. It outlives a reload.
type failures struct {
	mu       sync.Mutex
	networks map[netip.Prefix]failure // guarded by mu
}

type failure struct {
	count int
	since time.Time
}

func newFailures() (*failures, error) {
	return &failures{networks: make(map[netip.Prefix]failure)}, nil
}

// Close implements io.Closer for core.Shared.
func (*failures) Close() error { return nil }

// wait tells how long a network is not listened to, 0 if it is.
func (f *failures) wait(network netip.Prefix, limit int, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	known, ok := f.networks[network]
	if !ok || known.count < limit {
		return 0
	}
	return max(0, known.since.Add(failureWindow).Sub(now))
}

// add counts a wrong token.
func (f *failures) add(network netip.Prefix, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.networks[network]
	if now.Sub(known.since) >= failureWindow {
		known = failure{since: now}
		if len(f.networks) >= maxFailures {
			f.forget(now)
		}
	}
	known.count++
	f.networks[network] = known
}

// forget makes room: for those whose time is over, else for all.
func (f *failures) forget(now time.Time) {
	for network, known := range f.networks {
		if now.Sub(known.since) >= failureWindow {
			delete(f.networks, network)
		}
	}
	if len(f.networks) >= maxFailures {
		clear(f.networks)
	}
}
