package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/mox-like/mox-like/core/check"
)

const (
	checkPath = "/v1/check"
	// checkTimeout leaves room for the checks before it.
	checkTimeout = 2 * check.MaxTime
	// maxCheckRequest bounds the part of a check that says who sends what to whom,
	// and maxCheck the whole, of which the listener takes max_message_size.
	maxCheckRequest = 3 * check.MaxZone
	maxCheck        = 2 << 30
)

// The parts of a check, in this order.
const (
	partRequest = "request"
	partMessage = "message"
)

// Names that say in the description of the API what these types are of.
type (
	checkRequest   check.Request
	checkResult    check.Result
	checkReply     check.Reply
	checkRecipient check.Recipient
)

func (a *api) checkRoutes() {
	schemas := a.schema.OpenAPI().Components.Schemas
	schemas.RegisterTypeAlias(reflect.TypeFor[check.Request](), reflect.TypeFor[checkRequest]())
	schemas.RegisterTypeAlias(reflect.TypeFor[check.Result](), reflect.TypeFor[checkResult]())
	schemas.RegisterTypeAlias(reflect.TypeFor[check.Reply](), reflect.TypeFor[checkReply]())
	schemas.RegisterTypeAlias(reflect.TypeFor[check.Recipient](), reflect.TypeFor[checkRecipient]())
	// huma reads a body itself that is described as an object.
	form := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	handle(a, endpoint{
		id: "check-message", method: http.MethodPost, path: checkPath, summary: "Tell what would become of a message", errors: []int{413, 422},
		text: "This server neither delivers, counts, learns nor remembers anything; a daemon that is asked may do so by itself. The parts come in this order. " +
			"At most two checks run at a time, others wait. The message must be there within a minute.",
		body: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"multipart/form-data": form}},
	}, tagTraces, func(ctx context.Context, in *checkInput) (*answer[*check.Result], error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer in.body.endWith(ctx, cancel, a.Leaving)()
		r, message, err := in.read()
		if err != nil {
			return nil, err
		}
		result, report, err := a.Operations().Check(ctx, r, message)
		if report != nil {
			return nil, newProblem(err, report)
		}
		return give(result, err)
	})
	form.Schema = &huma.Schema{
		Type: huma.TypeObject, Required: []string{partRequest, partMessage},
		Properties: map[string]*huma.Schema{
			partRequest: schemas.Schema(reflect.TypeFor[check.Request](), true, ""),
			partMessage: {Type: huma.TypeString, Format: "binary", Description: "The message, with CR LF at the end of each line."},
		},
	}
}

// checkInput is a request whose message is read as it comes.
type checkInput struct {
	request *http.Request
	body    *pacedBody
}

// Resolve takes the body, which huma leaves alone.
func (i *checkInput) Resolve(ctx huma.Context) []error {
	r, w := humago.Unwrap(ctx)
	i.request = r
	i.body = &pacedBody{from: http.MaxBytesReader(w, r.Body, maxCheck), control: http.NewResponseController(w)}
	return nil
}

// read gives the two parts.
func (i *checkInput) read() (check.Request, io.Reader, error) {
	var r check.Request
	i.request.Body = io.NopCloser(i.body)
	parts, err := i.request.MultipartReader()
	if err != nil {
		return r, nil, Invalid(fmt.Errorf("check message: the body is not multipart/form-data with the parts %s and %s: %w", partRequest, partMessage, err))
	}
	part, err := nextPart(parts, partRequest)
	if err != nil {
		return r, nil, err
	}
	d := json.NewDecoder(io.LimitReader(part, maxCheckRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, nil, Invalid(fmt.Errorf("check message: read the part %s: %w", partRequest, err))
	}
	message, err := nextPart(parts, partMessage)
	return r, message, err
}

func nextPart(parts *multipart.Reader, name string) (*multipart.Part, error) {
	part, err := parts.NextPart()
	if err == nil && part.FormName() != name {
		err = fmt.Errorf("here is %q", part.FormName())
	}
	if err != nil {
		return nil, Invalid(fmt.Errorf("check message: find the part %s: %w", name, err))
	}
	return part, nil
}

// pacedBody reads a message from a client that must never pause for long.
type pacedBody struct {
	from    io.Reader
	control *http.ResponseController
	ended   func() error // why nobody reads on, once it is so
}

// errLeaving is returned to those whose request is broken off by the server's end.
var errLeaving = &kindError{kind: ErrNotRunning, err: errors.New("the server is shutting down")}

// endWith ends the reading when ctx does, and both when the server is left. The
// caller calls release in the end.
func (b *pacedBody) endWith(ctx context.Context, cancel context.CancelCauseFunc, leaving <-chan struct{}) (release func()) {
	b.ended = func() error { return context.Cause(ctx) }
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-leaving:
			cancel(errLeaving)
		case <-ctx.Done():
		case <-done:
			return
		}
		// A read that is under way ends, and the next one sees why.
		_ = b.control.SetReadDeadline(time.Now())
	})
	return func() { close(done); watch.Wait() }
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if err := b.control.SetReadDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, fmt.Errorf("bound reading: %w", err)
	}
	if err := b.ended(); err != nil {
		return 0, err
	}
	n, err := b.from.Read(p)
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	ended := b.ended()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && ended != nil:
		err = ended
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &kindError{kind: context.DeadlineExceeded, err: fmt.Errorf("the message came too slowly: nothing for %s", stallTimeout)}
	case tooLarge:
		err = &kindError{kind: errTooLarge, err: fmt.Errorf("the message has more than %d bytes", int64(maxCheck))}
	}
	return n, err
}
