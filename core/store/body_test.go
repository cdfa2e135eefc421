package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/store"
)

// insert stores a body with one reference and gives its ID.
func insert(t *testing.T, s *store.Store, content string) int64 {
	t.Helper()
	b := body(t, s, content)
	defer b.Discard()
	var id int64
	err := s.Write(t.Context(), func(tx *store.Tx) (err error) {
		id, err = tx.InsertBody(b, 1)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func body(t *testing.T, s *store.Store, content string) *store.Body {
	t.Helper()
	head, rest := content[:len(content)/2], content[len(content)/2:]
	b, err := s.PrepareBody([]byte(head), strings.NewReader(rest), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func addRefs(s *store.Store, id int64, delta int) error {
	return s.Write(context.Background(), func(tx *store.Tx) error { return tx.AddBodyRefs(id, delta) })
}

func content(r *store.BodyReader) (string, error) {
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	return string(b), err
}

func checkBody(t *testing.T, s *store.Store, id int64, want string) {
	t.Helper()
	r, err := s.OpenBody(t.Context(), id)
	if err != nil {
		t.Error(err)
		return
	}
	got, err := content(r)
	if err := errors.Join(err, r.Close()); err != nil || got != want {
		t.Errorf("body of %d bytes, %v, want one of %d", len(got), err, len(want))
	}
}

var (
	smallBody = "Subject: small\r\n\r\nhello\r\n"
	largeBody = "Subject: large\r\n\r\n" + strings.Repeat("hello\r\n", 100)
)

func TestBody(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			for _, want := range []string{"", "x", smallBody, largeBody} {
				id := insert(t, s, want)
				checkBody(t, s, id, want)
				if err := addRefs(s, id, 2); err != nil {
					t.Fatal(err)
				}
				if err := addRefs(s, id, -2); err != nil {
					t.Fatal(err)
				}
				before, err := s.OpenBody(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if err := addRefs(s, id, -1); err != nil {
					t.Fatal(err)
				}
				if _, err := s.OpenBody(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("body without references: error %v, want ErrNotFound", err)
				}
				if got, err := content(before); err != nil || got != want {
					t.Errorf("body that was opened before: %d bytes, %v", len(got), err)
				}
				if err := before.Close(); err != nil {
					t.Error(err)
				}
				if err := addRefs(s, id, 1); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("reference to a body that is gone: error %v, want ErrNotFound", err)
				}
			}
		})
	}
}

// TestBodyIDsAreNotUsedAgain matters to those who remember an ID beyond the
// transaction in which they read it: they must not get another's message.
func TestBodyIDsAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			first := insert(t, s, smallBody)
			if err := addRefs(s, first, -1); err != nil {
				t.Fatal(err)
			}
			if second := insert(t, s, smallBody); second == first {
				t.Errorf("both bodies have ID %d", first)
			}
		})
	}
}

// TestBodyOfFailedWrite inserts a body twice, the second time with success.
func TestBodyOfFailedWrite(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			for _, want := range []string{smallBody, largeBody} {
				b := body(t, s, want)
				var id int64
				write := func(result error) error {
					return s.Write(t.Context(), func(tx *store.Tx) (err error) {
						id, err = tx.InsertBody(b, 1)
						return errors.Join(err, result)
					})
				}
				if err := write(errRefused); !errors.Is(err, errRefused) {
					t.Errorf("error %v, want that of the function", err)
				}
				if err := write(nil); err != nil {
					t.Fatal(err)
				}
				b.Discard()
				b.Discard()
				checkBody(t, s, id, want)
				if err := write(nil); err == nil {
					t.Error("a discarded body was inserted")
				}
			}
		})
	}
}

func TestBodyOfWrongSize(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			for _, content := range []string{smallBody, largeBody} {
				for _, delta := range []int{-1, 1} {
					b, err := s.PrepareBody(nil, strings.NewReader(content), int64(len(content)+delta))
					if err == nil {
						t.Errorf("%d bytes said to be %d: no error", len(content), len(content)+delta)
						b.Discard()
					}
				}
			}
			if _, err := s.PrepareBody([]byte("head"), nil, 2); err == nil {
				t.Error("head longer than the whole: no error")
			}
			if _, err := s.PrepareBody(nil, io.MultiReader(bytes.NewReader(make([]byte, 150)), errReader{}), 200); !errors.Is(err, errRefused) {
				t.Errorf("error %v, want that of the reader", err)
			}
		})
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errRefused }

func TestBodyNotFound(t *testing.T) {
	t.Parallel()
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			if _, err := s.OpenBody(t.Context(), 77); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("error %v, want ErrNotFound", err)
			}
		})
	}
}
