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
		text: "Nothing is delivered, counted, learned or remembered. The parts come in this order. At most two checks run at a time, others wait.",
		body: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"multipart/form-data": form}},
	}, tagTraces, func(ctx context.Context, in *checkInput) (*answer[*check.Result], error) {
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
	body    io.Reader
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
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if err := b.control.SetReadDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, fmt.Errorf("bound reading: %w", err)
	}
	n, err := b.from.Read(p)
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &kindError{kind: context.DeadlineExceeded, err: fmt.Errorf("the message came too slowly: nothing for %s", stallTimeout)}
	case tooLarge:
		err = &kindError{kind: errTooLarge, err: fmt.Errorf("the message has more than %d bytes", int64(maxCheck))}
	}
	return n, err
}
