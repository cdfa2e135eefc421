package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

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
	{ErrNotFound, "/problems/not-found", "There is no such account or record", http.StatusNotFound},
	{ErrExists, "/problems/exists", "It exists already", http.StatusConflict},
	{ErrInvalid, "/problems/invalid", "An argument makes no sense", http.StatusUnprocessableEntity},
	{ErrRefused, "/problems/refused", "The configuration has errors", http.StatusUnprocessableEntity},
	{ErrNotRunning, "/problems/not-running", "No server runs", http.StatusServiceUnavailable},
	{store.ErrFull, "/problems/full", "The disk is full", http.StatusInsufficientStorage},
	{store.ErrClosed, "/problems/closed", "The server stops", http.StatusServiceUnavailable},
	{context.DeadlineExceeded, "/problems/timeout", "It took too long", http.StatusGatewayTimeout},
}

// failed is the type of all other errors.
var failed = problemType{nil, "/problems/failed", "It did not work", http.StatusInternalServerError}

// problem is the body of an answer that is an error (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Report is an extension: why a configuration was refused.
	Report *Report `json:"report,omitempty"`
}

const problemMediaType = "application/problem+json"

func newProblem(err error, report *Report) problem {
	t := failed
	for _, known := range problemTypes {
		if errors.Is(err, known.err) {
			t = known
			break
		}
	}
	return problem{Type: t.uri, Title: t.title, Status: t.status, Detail: err.Error(), Report: report}
}

// err gives the error that the other end had.
func (p problem) err() error {
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
	var p problem
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&p); err != nil {
		return nil, fmt.Errorf("read the server's answer: %w", err)
	}
	return p.Report, p.err()
}
