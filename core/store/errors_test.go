package store

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	for _, tc := range []struct {
		title string
		err   error
		want  error
	}{
		{"disk full", &fs.PathError{Op: "write", Path: "bodies/00/x", Err: syscall.ENOSPC}, ErrFull},
		{"quota used up", &fs.PathError{Op: "write", Path: "bodies/00/x", Err: syscall.EDQUOT}, ErrFull},
		{"anything else", other, other},
	} {
		t.Run(tc.title, func(t *testing.T) {
			t.Parallel()
			got := classify(tc.err)
			if !errors.Is(got, tc.want) || !errors.Is(got, tc.err) {
				t.Errorf("error %v, want one that is both %v and %v", got, tc.want, tc.err)
			}
		})
	}
	if err := classify(nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}
