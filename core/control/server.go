package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
)

// Limits of the socket.
const (
	maxRequest     = 64 << 10         // bytes of a request's body
	maxAnswer      = 64 << 20         // bytes of an answer's body
	requestTimeout = time.Minute      // for all but following traces
	stallTimeout   = 10 * time.Second // for a client that does not read
)

// Server answers on the socket of a data directory.
type Server struct {
	http   *http.Server
	served sync.WaitGroup
	cancel context.CancelFunc
}

// Serve opens the socket of a data directory, whose lock the caller holds, and
// answers on it until Close.
func Serve(ctx context.Context, dir string, ops Operations, log *zap.Logger) (*Server, error) {
	l, err := listen(ctx, dir)
	if err != nil {
		return nil, err
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{cancel: cancel, http: &http.Server{
		Handler:           newHandler(ops, log),
		ReadHeaderTimeout: stallTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       requestTimeout,
		MaxHeaderBytes:    maxRequest,
		ErrorLog:          zap.NewStdLog(log),
		BaseContext:       func(net.Listener) context.Context { return base },
	}}
	s.served.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control socket ended", zap.Error(err))
		}
	})
	return s, nil
}

// Close removes the socket, ends those who follow traces, and waits for the other
// requests until ctx ends.
func (s *Server) Close(ctx context.Context) error {
	s.cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("close control socket: %w", err), s.http.Close())
	}
	s.served.Wait()
	return err
}

// handler answers requests.
type handler struct {
	ops Operations
	log *zap.Logger
}

// account is the body of requests about accounts.
type account struct {
	Address  string `json:"address"`
	Password string `json:"password,omitempty"`
}

func newHandler(ops Operations, log *zap.Logger) http.Handler {
	h := &handler{ops: ops, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/users", answer(h, func(r *http.Request) (any, error) { return h.users(r.Context()) }))
	mux.HandleFunc("POST /v1/users", answer(h, h.addUser))
	mux.HandleFunc("PUT /v1/users/password", answer(h, h.setPassword))
	mux.HandleFunc("POST /v1/users/remove", answer(h, h.removeUser))
	mux.HandleFunc("POST /v1/traces/find", answer(h, h.findTraces))
	mux.HandleFunc("GET /v1/trace", answer(h, func(r *http.Request) (any, error) { return ops.Trace(r.Context(), r.FormValue("id")) }))
	mux.HandleFunc("GET /v1/follow", h.follow)
	mux.HandleFunc("GET /v1/domains", answer(h, func(r *http.Request) (any, error) { return ops.Domains(r.Context()) }))
	mux.HandleFunc("GET /v1/status", answer(h, func(r *http.Request) (any, error) { return ops.Status(r.Context()) }))
	mux.HandleFunc("POST /v1/reload", answer(h, func(r *http.Request) (any, error) { return ops.Reload(r.Context()) }))
	return mux
}

// answer bounds a request and sends what do gives, or its error as a problem.
func answer(h *handler, do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		result, err := do(r.WithContext(ctx))
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(requestTimeout)); err != nil {
			h.log.Warn("bound control answer", zap.Error(err))
		}
		if err != nil {
			report, _ := result.(*Report)
			h.problem(w, newProblem(err, report))
			return
		}
		h.send(w, "application/json", http.StatusOK, result)
	}
}

func (h *handler) problem(w http.ResponseWriter, p problem) {
	h.send(w, problemMediaType, p.Status, p)
}

func (h *handler) send(w http.ResponseWriter, mediaType string, status int, body any) {
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		h.log.Warn("send control answer", zap.Error(err))
	}
}

// read decodes the body of a request.
func read(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return &kindError{kind: ErrInvalid, err: fmt.Errorf("read request: %w", err)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return &kindError{kind: ErrInvalid, err: errors.New("read request: more than one value")}
	}
	return nil
}

// userJSON is an account in an answer.
type userJSON struct {
	Address string    `json:"address"`
	Created time.Time `json:"created"`
}

func (h *handler) users(ctx context.Context) ([]userJSON, error) {
	list, err := h.ops.Users(ctx)
	users := make([]userJSON, 0, len(list))
	for _, a := range list {
		users = append(users, userJSON(a))
	}
	return users, err
}

func (h *handler) addUser(r *http.Request) (any, error) {
	var a account
	if err := read(r, &a); err != nil {
		return nil, err
	}
	return nil, h.ops.AddUser(r.Context(), a.Address, mail.Secret(a.Password))
}

func (h *handler) setPassword(r *http.Request) (any, error) {
	var a account
	if err := read(r, &a); err != nil {
		return nil, err
	}
	return nil, h.ops.SetPassword(r.Context(), a.Address, mail.Secret(a.Password))
}

func (h *handler) removeUser(r *http.Request) (any, error) {
	var a account
	if err := read(r, &a); err != nil {
		return nil, err
	}
	return nil, h.ops.RemoveUser(r.Context(), a.Address)
}

// search is the body of a request to find traces.
type search struct {
	Filter trace.Filter `json:"filter"`
	Last   int          `json:"last"`
}

func (h *handler) findTraces(r *http.Request) (any, error) {
	var s search
	if err := read(r, &s); err != nil {
		return nil, err
	}
	return h.ops.FindTraces(r.Context(), s.Filter, s.Last)
}

// follow sends records as they are added, one JSON object a line, and an empty
// line at the start, which tells that it has begun.
func (h *handler) follow(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	send := func(line []byte) error {
		if err := c.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		return c.Flush()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	err := send(nil)
	if err == nil {
		err = h.ops.FollowTraces(r.Context(), func(record *trace.Record) error {
			line, err := json.Marshal(record)
			if err != nil {
				return err
			}
			return send(line)
		})
	}
	if err != nil {
		h.log.Info("follower of traces left", zap.Error(err))
	}
}
