package control

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// deadlines is an answer that keeps the deadline for reading.
type deadlines struct {
	*httptest.ResponseRecorder
	last time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.last = t
	return nil
}

// TestSteady: a list is bounded in size and time.
func TestSteady(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body io.Reader
		want error // its kind
	}{
		"whole":     {strings.NewReader("0123456789"), nil},
		"too large": {strings.NewReader("0123456789a"), errTooLarge},
		"too slow":  {iotest.ErrReader(os.ErrDeadlineExceeded), context.DeadlineExceeded},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
			s := &steady{
				from: http.MaxBytesReader(w, io.NopCloser(test.body), 10), control: http.NewResponseController(w),
				until: time.Now().Add(importTimeout),
			}
			if _, err := io.Copy(io.Discard, s); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if left := time.Until(w.last); left > stallTimeout || left < stallTimeout/2 {
				t.Errorf("there are %s left, want about %s", left, stallTimeout)
			}
		})
	}
}
