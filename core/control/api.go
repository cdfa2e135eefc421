package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/trace"
)

//go:generate go run ./gen ../../docs/openapi.json

// HandlerOptions configure NewHandler.
type HandlerOptions struct {
	// Operations gives what the API does; nil while the server starts.
	Operations func() Operations
	// Actor says who makes a request, for the audit trail. It is asked for requests
	// that may change something.
	Actor func(*http.Request) Actor
	// ReadOnly tells that a request may look only, and not at everything; nil means
	// that none is.
	ReadOnly func(*http.Request) bool
	// Leaving is closed when those who follow traces have to leave.
	Leaving <-chan struct{}
	// Logger takes what no client can be told.
	Logger *zap.Logger
}

// api answers requests.
type api struct {
	HandlerOptions
	mux    *http.ServeMux
	schema huma.API
}

// NewHandler gives the API under /v1. Who may use it, the caller decides. Requests
// are bounded in size and time; the server must let deadlines be set.
func NewHandler(o HandlerOptions) http.Handler {
	a := newAPI(o)
	a.serveSchema()
	return a
}

// OpenAPI gives the document that describes the API, as JSON.
func OpenAPI() ([]byte, error) {
	text, err := newAPI(HandlerOptions{}).schema.OpenAPI().MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("describe API: %w", err)
	}
	return text, nil
}

func newAPI(o HandlerOptions) *api {
	a := &api{HandlerOptions: o, mux: http.NewServeMux()}
	registry := huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		return strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), "JSON")
	})
	registry.RegisterTypeAlias(reflect.TypeFor[trace.Record](), reflect.TypeFor[traceRecord]())
	registry.RegisterTypeAlias(reflect.TypeFor[Report](), reflect.TypeFor[reportJSON]())
	a.schema = humago.New(a.mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "mox-like admin API", Version: "v1",
				Description: "All that the commands do. Errors are problems (RFC 9457) whose type is stable.",
			},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "A token of the listener, over TLS. The Unix sockets and client certificates need none."},
				},
			},
			Security: []map[string][]string{{"token": {}}, {}},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{own},
	})
	a.userRoutes()
	a.factorRoutes()
	a.blockRoutes()
	a.greylistRoutes()
	a.quarantineRoutes()
	a.settingRoutes()
	a.configRoutes()
	a.dkimRoutes()
	a.traceRoutes()
	a.statsRoutes()
	a.checkRoutes()
	a.processRoutes()
	schemas := registry.Map()
	delete(schemas, "ErrorModel") // huma's own, which become problems
	delete(schemas, "ErrorDetail")
	return a
}

// endpoint describes one operation of the API.
type endpoint struct {
	id      string // stable; the audit trail has it too
	method  string
	path    string
	summary string
	text    string
	status  int   // of success, 0 for 200 or 204
	errors  []int // beside those that every operation may have
	maxBody int64 // 0 for maxRequest
	full    bool  // not for those who may look only, although it changes nothing
	body    *huma.RequestBody
	answer  *huma.Response // where huma cannot know it
}

// handle adds an operation.
func handle[I, O any](a *api, e endpoint, tag string, do func(context.Context, *I) (*O, error)) {
	problemOf := func(text string) *huma.Response {
		schema := a.schema.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "")
		return &huma.Response{Description: text, Content: map[string]*huma.MediaType{problemMediaType: {Schema: schema}}}
	}
	op := huma.Operation{
		OperationID: e.id, Method: e.method, Path: e.path, Summary: e.summary, Description: e.text, Tags: []string{tag},
		DefaultStatus: e.status, MaxBodyBytes: e.maxBody, BodyReadTimeout: requestTimeout, RequestBody: e.body,
		Responses: map[string]*huma.Response{"default": problemOf("Another error.")},
	}
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxRequest
	}
	if e.answer != nil {
		op.Responses["200"] = e.answer
	}
	for _, status := range e.errors {
		op.Responses[strconv.Itoa(status)] = problemOf(http.StatusText(status) + ".")
	}
	if e.full || e.method != http.MethodGet {
		op.Middlewares = huma.Middlewares{a.mayWrite}
	}
	huma.Register(a.schema, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err == nil {
			return out, nil
		}
		if p, ok := errors.AsType[*Problem](err); ok {
			return nil, p
		}
		return nil, newProblem(err, nil)
	})
}

// readOnlyKey marks the context of a request that may look only.
type readOnlyKey struct{}

// mayWrite turns away who may look only.
func (a *api) mayWrite(ctx huma.Context, next func(huma.Context)) {
	if ctx.Context().Value(readOnlyKey{}) == nil {
		next(ctx)
		return
	}
	_, w := humago.Unwrap(ctx)
	a.send(w, NewProblem(http.StatusForbidden, "forbidden", ctx.Operation().OperationID+" is not for those who may look only"))
}

// answer is an answer with a body.
type answer[T any] struct{ Body T }

// give makes an answer of what an operation gives.
func give[T any](body T, err error) (*answer[T], error) {
	if err != nil {
		return nil, err
	}
	return &answer[T]{body}, nil
}

// nothing is an answer without a body.
type nothing struct{}

// PageParameters are those of a list, for huma, which looks at exported types only.
type PageParameters struct {
	After string `query:"after" maxLength:"1024" doc:"The next of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" doc:"How many entries a page has; 1000 without it."`
}

func (p PageParameters) page() Page { return Page(p) }

// ServeHTTP bounds a request and answers it.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer a.recovered(w, r)
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	found, pattern := a.mux.Handler(r)
	switch {
	case pattern == "":
		a.send(w, unrouted(found, w, r))
		return
	case a.Operations() == nil:
		a.send(w, newProblem(fmt.Errorf("the server starts: %w", ErrNotRunning), nil))
		return
	}
	limit := requestTimeout
	switch r.URL.Path {
	case importPath:
		limit = importTimeout
	case checkPath:
		limit = checkTimeout
	case followPath:
		limit = 0
	}
	ctx := r.Context()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit + stallTimeout)); err != nil {
			a.Logger.Warn("bound answer", zap.Error(err))
		}
	}
	if r.Method != http.MethodGet {
		ctx = WithActor(ctx, a.Actor(r))
	}
	if a.ReadOnly != nil && a.ReadOnly(r) {
		ctx = context.WithValue(ctx, readOnlyKey{}, true)
	}
	a.mux.ServeHTTP(w, r.WithContext(ctx))
}

// recovered keeps a panic from being more than the end of one request.
func (a *api) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	a.Logger.Error("panic in a request", zap.String("path", r.URL.Path), zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
	a.send(w, newProblem(errors.New("the server has a bug, which its log tells of"), nil))
}

func (a *api) send(w http.ResponseWriter, p *Problem) {
	if err := p.Send(w); err != nil {
		a.Logger.Info("client left", zap.Error(err))
	}
}

// unrouted is the answer to what no route has.
func unrouted(h http.Handler, w http.ResponseWriter, r *http.Request) *Problem {
	var s statusOnly
	h.ServeHTTP(&s, r)
	if s.code == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", s.Header().Get("Allow"))
		return NewProblem(s.code, "method-not-allowed", fmt.Sprintf("%s does not take %s, but %s", r.URL.Path, r.Method, s.Header().Get("Allow")))
	}
	return NewProblem(http.StatusNotFound, "no-such-path", fmt.Sprintf("the API has no path %s; /v1/openapi.json describes it", r.URL.Path))
}

// statusOnly is an answer of which only the status and the header count.
type statusOnly struct {
	header http.Header
	code   int
}

func (s *statusOnly) Header() http.Header {
	if s.header == nil {
		s.header = make(http.Header)
	}
	return s.header
}
func (s *statusOnly) WriteHeader(code int)        { s.code = code }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// serveSchema gives the document that describes the API.
func (a *api) serveSchema() {
	text, err := a.schema.OpenAPI().MarshalJSON()
	yaml, yamlErr := a.schema.OpenAPI().YAML()
	if err = errors.Join(err, yamlErr); err != nil {
		a.Logger.Error("describe API", zap.Error(err))
	}
	give := func(mediaType string, text []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			if _, err := w.Write(text); err != nil {
				a.Logger.Info("client left", zap.Error(err))
			}
		}
	}
	a.mux.HandleFunc("GET /v1/openapi.json", give("application/openapi+json", text))
	a.mux.HandleFunc("GET /v1/openapi.yaml", give("application/openapi+yaml", yaml))
}
