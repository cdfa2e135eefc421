package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"

	"github.com/mox-like/mox-like/core/check"
)

// Check tells what would become of a message.
func (c *Client) Check(ctx context.Context, r check.Request, message io.Reader) (*check.Result, *Report, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout+stallTimeout)
	defer cancel()
	reader, writer := io.Pipe()
	form := multipart.NewWriter(writer)
	sent := make(chan error, 1)
	go func() {
		err := writeCheck(form, r, message)
		writer.CloseWithError(err)
		sent <- err
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control"+checkPath, reader)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ask server: %w", err), reader.Close(), <-sent)
	}
	request.Header.Set("User-Agent", userAgent)
	request.Header.Set("Content-Type", form.FormDataContentType())
	response, err := c.http.Do(request)
	_ = reader.Close() // a server that has answered reads no more
	broken := <-sent
	switch {
	case broken != nil && !errors.Is(broken, io.ErrClosedPipe):
		err = broken
	case err != nil:
		err = fmt.Errorf("ask the server on %s: %w", c.dir, errors.Unwrap(err))
	}
	if response == nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode/100 != 2 {
		report, err := readProblem(response)
		return nil, report, err
	}
	result := new(check.Result)
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(result); err != nil {
		return nil, nil, fmt.Errorf("read the answer of the server on %s: %w", c.dir, err)
	}
	return result, nil, nil
}

// writeCheck writes the parts of a check.
func writeCheck(form *multipart.Writer, r check.Request, message io.Reader) error {
	part, err := form.CreateFormField(partRequest)
	if err == nil {
		err = json.NewEncoder(part).Encode(r)
	}
	if err == nil {
		part, err = form.CreateFormFile(partMessage, "message.eml")
	}
	if err == nil {
		_, err = io.Copy(part, message)
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}
