package smtp

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestFrontWrite pins that replies may come in any pieces, and that hidden ones
// are hidden to their last line.
func TestFrontWrite(t *testing.T) {
	t.Parallel()
	const replies = "220 hidden\r\n250-hidden\r\n250-hidden\r\n250 hidden\r\n250 2.0.0 I have successfully done nothing\r\n550-5.1.1 two\r\n550 5.1.1 lines\r\n"
	const want = "250 2.0.0 OK\r\n550-5.1.1 two\r\n550 5.1.1 lines\r\n"
	for size := 1; size <= len(replies); size++ {
		c := &tape{in: bytes.NewReader(nil)}
		s := newListener(t, options{storeless: true}).listener.newSession(t.Context(), newWire(c, time.Second))
		f := newFront(s)
		f.hidden = 2
		for rest := replies; rest != ""; {
			n := min(size, len(rest))
			if written, err := f.Write([]byte(rest[:n])); written != n || err != nil {
				t.Fatalf("write: %d, %v", written, err)
			}
			rest = rest[n:]
		}
		if err := s.wire.close(); err != nil {
			t.Fatal(err)
		}
		if got := c.out.String(); got != want {
			t.Errorf("in pieces of %d: got %q, want %q", size, got, want)
		}
		if s.errors != 1 {
			t.Errorf("%d errors counted, want 1", s.errors)
		}
	}
}

// TestGathering pins how many writes a batch costs: one, or one for each buffer
// full.
func TestGathering(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ commands, writes int }{{1, 2}, {100, 2}, {400, 3}} {
		c := &countingTape{tape: tape{in: bytes.NewReader([]byte(strings.Repeat("NOOP\r\n", test.commands))), each: readBuffer}}
		newListener(t, options{storeless: true}).listener.newSession(t.Context(), newWire(c, time.Second)).serve()
		if c.writes != test.writes {
			t.Errorf("%d commands in a batch: %d writes, want %d: the greeting and the replies", test.commands, c.writes, test.writes)
		}
	}
}

type countingTape struct {
	tape
	writes int
}

func (c *countingTape) Write(p []byte) (int, error) {
	c.writes++
	return c.tape.Write(p)
}
