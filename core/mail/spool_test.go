package mail_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/mail"
)

// TestSpoolFindsTheHeader has header sections that end around the places up to which
// a file is read for them.
func TestSpoolFindsTheHeader(t *testing.T) {
	t.Parallel()
	const body = "Body: none\r\n"
	for _, around := range []int{8 << 10, 32 << 10, 128 << 10, mail.MaxHeaderSize} {
		for size := around - 8; size <= around+8; size++ {
			// The last field is folded, so that the cut may be before its second line.
			const first, last = "Subject: ", "Last: a\r\n b\r\n\r\n"
			raw := first + strings.Repeat("x", size-len(first)-2-len(last)) + "\r\n" + last + body
			s := mail.NewSpool(t.TempDir(), 100)
			if _, err := io.WriteString(s, raw); err != nil {
				t.Fatal(err)
			}
			m, err := s.Message()
			if size > mail.MaxHeaderSize {
				if !errors.Is(err, mail.ErrHeaderTooLarge) {
					t.Errorf("%d bytes: error %v", size, err)
				}
			} else if err != nil {
				t.Errorf("%d bytes: %v", size, err)
			} else if got, err := io.ReadAll(m.OpenBody()); err != nil || string(got) != body {
				t.Errorf("%d bytes: the body is %q, %v", size, got, err)
			} else if got := fmt.Sprint(len(m.Header.Fields), " ", m.Header.Get("Last")); got != "2 a b" {
				t.Errorf("%d bytes: the header has %s", size, got)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// FuzzSpool holds that a message in a file is read as one in memory is, wherever its
// header section ends.
func FuzzSpool(f *testing.F) {
	f.Add([]byte("From: a\r\n\r\nbody"), 8<<10-20)
	f.Add([]byte("a\r\n b\r\n\r\nbody"), 8<<10-3)
	f.Add([]byte("\n\n\n"), 32<<10-1)
	f.Add([]byte("\r\n\r\n"), 8<<10-5)
	f.Fuzz(func(t *testing.T, end []byte, padding int) {
		raw := append([]byte("X: "+strings.Repeat("x", min(max(padding, 0), 40<<10))), end...)
		want, wantErr := mail.NewMessage(raw)
		s := mail.NewSpool(t.TempDir(), 1)
		defer func() { _ = s.Close() }()
		if _, err := s.Write(raw); err != nil {
			t.Fatal(err)
		}
		got, err := s.Message()
		if wantErr != nil || err != nil {
			if !errors.Is(err, wantErr) {
				t.Errorf("error %v, want %v", err, wantErr)
			}
			return
		}
		a, err := io.ReadAll(got.OpenBody())
		b, err2 := io.ReadAll(want.OpenBody())
		if err != nil || err2 != nil || string(a) != string(b) || len(got.Header.Fields) != len(want.Header.Fields) {
			t.Errorf("body of %d bytes and %d fields, want %d and %d; %v, %v", len(a), len(got.Header.Fields), len(b), len(want.Header.Fields), err, err2)
		}
	})
}
