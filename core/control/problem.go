package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mox-like/mox-like/core/store"
)

// kindError is an error that says what kind it is beside its own text.
type kindError struct {
	kind error
	err  error
}

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

// problemType is how an error goes over HTTP.
type problemType struct {
	err    error
	uri    string // stable: the client tells errors apart by it
	title  string
	status int
}

var problemTypes = []problemType{
	{ErrNotFound, "/problems/not-found", "There is no such thing", http.StatusNotFound},
	{ErrExists, "/problems/exists", "It exists already", http.StatusConflict},
	{ErrInvalid, "/problems/invalid", "An argument makes no sense", http.StatusUnprocessableEntity},
	{ErrRefused, "/problems/refused", "The configuration has errors", http.StatusUnprocessableEntity},
	{ErrNotRunning, "/problems/not-running", "No server runs", http.StatusServiceUnavailable},
	{ErrMissing, "/problems/missing-module", "This build lacks a module", http.StatusNotImplemented},
	{errTooLarge, "/problems/too-large", "The request is too large", http.StatusRequestEntityTooLarge},
	{store.ErrFull, "/problems/full", "The disk is full", http.StatusInsufficientStorage},
	{store.ErrClosed, "/problems/closed", "The server stops", http.StatusServiceUnavailable},
	{context.DeadlineExceeded, "/problems/timeout", "It took too long", http.StatusGatewayTimeout},
}

// failed is the type of all other errors.
var failed = problemType{nil, "/problems/failed", "It did not work", http.StatusInternalServerError}

var errTooLarge = errors.New("the request is too large")

// Problem is the body of an answer that is an error (RFC 9457).
type Problem struct { //nolint:errname // the name that RFC 9457 has for it
	Type   string `json:"type" doc:"What kind of error it is. It is stable: programs compare it." example:"/problems/not-found"`
	Title  string `json:"title" doc:"The same for people; it does not change from one occurrence to the next."`
	Status int    `json:"status" doc:"The status of the answer."`
	Detail string `json:"detail" doc:"What went wrong this time, for people."`
	// Report is an extension: why a configuration was refused.
	Report *Report `json:"report,omitempty" doc:"Why the configuration or the settings were refused."`
}

const problemMediaType = "application/problem+json"

func newProblem(err error, report *Report) *Problem {
	t := failed
	for _, known := range problemTypes {
		if errors.Is(err, known.err) {
			t = known
			break
		}
	}
	return &Problem{Type: t.uri, Title: t.title, Status: t.status, Detail: err.Error(), Report: report}
}

// NewProblem makes a problem that HTTP itself has a name for. kind is the last part
// of its type.
func NewProblem(status int, kind, detail string) *Problem {
	return &Problem{Type: "/problems/" + kind, Title: http.StatusText(status), Status: status, Detail: detail}
}

// Error gives the detail.
func (p *Problem) Error() string { return p.Detail }

// GetStatus gives the status, for huma.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType gives the media type of problems, for huma.
func (p *Problem) ContentType(string) string { return problemMediaType }

// Send answers with the problem.
func (p *Problem) Send(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", problemMediaType)
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		return fmt.Errorf("send answer: %w", err)
	}
	return nil
}

// own makes a problem of what huma found wrong with a request. The values are left
// out, since they may be passwords.
func own(_ huma.Context, _ string, body any) (any, error) {
	found, ok := body.(*huma.ErrorModel)
	if !ok {
		return body, nil
	}
	p := &Problem{Status: found.Status, Title: "The request makes no sense", Type: "/problems/invalid", Detail: found.Detail}
	switch found.Status {
	case http.StatusRequestEntityTooLarge:
		p.Type, p.Title = "/problems/too-large", "The request is too large"
	case http.StatusRequestTimeout:
		p.Type, p.Title = "/problems/timeout", "It took too long"
	case http.StatusUnsupportedMediaType:
		p.Detail = "the body of the request is no JSON: send Content-Type: application/json"
	case http.StatusInternalServerError:
		p.Type, p.Title = failed.uri, failed.title
	}
	var details []string
	for _, d := range found.Errors {
		details = append(details, strings.TrimPrefix(d.Location+": "+d.Message, ": "))
	}
	if len(details) > 0 && found.Status != http.StatusUnsupportedMediaType {
		p.Detail += ": " + strings.Join(details, "; ")
	}
	return p, nil
}

// err gives the error that the other end had.
func (p *Problem) err() error {
	err := errors.New(p.Detail)
	for _, known := range problemTypes {
		if p.Type == known.uri {
			return &kindError{kind: known.err, err: err}
		}
	}
	return err
}

// readProblem reads the error of an answer.
func readProblem(response *http.Response) (*Report, error) {
	if response.Header.Get("Content-Type") != problemMediaType {
		return nil, fmt.Errorf("the server answers %s: is it another build?", response.Status)
	}
	var p Problem
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&p); err != nil {
		return nil, fmt.Errorf("read the server's answer: %w", err)
	}
	return p.Report, p.err()
}
