package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Limits of requests, at the control socket and at listeners of the API.
const (
	maxRequest     = 64 << 10         // bytes of a request's body
	maxSettings    = 1 << 20          // bytes of a request's body with settings
	maxImport      = 512 << 20        // bytes of a list of networks
	maxHeader      = 32 << 10         // bytes of a request's header section
	maxAnswer      = 64 << 20         // bytes of an answer's body
	requestTimeout = time.Minute      // for all but following traces and imports
	importTimeout  = 10 * time.Minute // for an import
	stallTimeout   = 10 * time.Second // for a client that does not read or write
)

// HTTPServer gives a server for the API that no client can keep busy by being slow.
// It is to be served and shut down by the caller; ctx is the base of all requests.
func HTTPServer(ctx context.Context, h http.Handler, log *zap.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: stallTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       requestTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          zap.NewStdLog(log),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       WithPeer,
	}
}

// Server answers on the socket of a data directory.
type Server struct {
	http    *http.Server
	served  sync.WaitGroup
	leaving chan struct{}
	cancel  context.CancelFunc
}

// Serve opens the socket of a data directory, whose lock the caller holds, and
// answers on it until Close.
func Serve(ctx context.Context, dir string, ops Operations, log *zap.Logger) (*Server, error) {
	l, err := listen(ctx, dir)
	if err != nil {
		return nil, err
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{cancel: cancel, leaving: make(chan struct{})}
	handler := NewHandler(HandlerOptions{Operations: func() Operations { return ops }, Actor: socketActor, Leaving: s.leaving, Logger: log})
	s.http = HTTPServer(base, handler, log)
	s.served.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control socket ended", zap.Error(err))
		}
	})
	return s, nil
}

// socketActor names the user at the other end.
func socketActor(r *http.Request) Actor {
	via := ViaAPI
	if agent := r.UserAgent(); agent == userAgent || strings.HasPrefix(agent, userAgent+"/") {
		via = ViaCommand
	}
	return Actor{Name: Peer(r.Context()), Via: via}
}

// Close removes the socket, ends those who follow traces, and waits for the other
// requests until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	close(s.leaving)
	err := s.http.Shutdown(ctx)
	s.cancel()
	if err != nil {
		err = errors.Join(fmt.Errorf("close control socket: %w", err), s.http.Close())
	}
	s.served.Wait()
	return err
}
