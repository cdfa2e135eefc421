package clamav

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/backend"
	"github.com/mox-like/mox-like/test/daemon"
)

// TestVersion finds that clamd is asked once an hour, and not waited for.
func TestVersion(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	answer := make(chan string)
	v := newVersion(fake(t, func(conn net.Conn) {
		command := make([]byte, len("zVERSION\x00"))
		if _, err := io.ReadFull(conn, command); err != nil || string(command) != "zVERSION\x00" {
			t.Errorf("asked %q, %v", command, err)
		}
		asked.Add(1)
		reply(conn, <-answer)
	}))
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		after                time.Duration
		before, answer, want string
	}{
		{0, "", "ClamAV 1.4.3/27816/Sun Nov  1 08:51:40 2026\x00", "ClamAV 1.4.3/27816/Sun Nov  1 08:51:40 2026"},
		{time.Hour, "ClamAV 1.4.3/27816/Sun Nov  1 08:51:40 2026", "ClamAV 1.4.3\r\n" + strings.Repeat("x", 100) + "\x00", "ClamAV 1.4.3??" + strings.Repeat("x", 66) + "…"},
		{2 * time.Hour, "ClamAV 1.4.3??" + strings.Repeat("x", 66) + "…", "220 mx.example.test ESMTP\x00", ""},
		{3 * time.Hour, "", "", ""},
	} {
		at := now.Add(step.after)
		for range 3 {
			if got := v.get(at); got != step.before {
				t.Errorf("after %s, before the answer: %q, want %q", step.after, got, step.before)
			}
		}
		answer <- step.answer
		v.asking.Wait()
		if got := v.get(at.Add(time.Hour - 1)); got != step.want {
			t.Errorf("after %s: %q, want %q", step.after, got, step.want)
		}
	}
	if n := asked.Load(); n != 4 {
		t.Errorf("asked %d times, want 4", n)
	}
}

// TestVersionCloses finds that a clamd which says nothing keeps nobody waiting.
func TestVersionCloses(t *testing.T) {
	t.Parallel()
	reached, end := make(chan struct{}), make(chan struct{})
	v := newVersion(fake(t, func(net.Conn) { close(reached); <-end }))
	defer close(end)
	if got := v.get(time.Now()); got != "" {
		t.Errorf("version %q", got)
	}
	<-reached
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if got := v.get(time.Now().Add(2 * time.Hour)); got != "" {
		t.Errorf("version %q after the end", got)
	}
}

// withoutVersion stands before a clamd and does not tell its version, for tests that
// compare reasons: the first would have none, and those after it may.
func withoutVersion(tb testing.TB, clamd backend.Address) backend.Address {
	tb.Helper()
	return fake(tb, func(conn net.Conn) {
		command := make([]byte, len("zVERSION\x00"))
		if _, err := io.ReadFull(conn, command); err != nil || string(command) == "zVERSION\x00" {
			return
		}
		behind, err := net.Dial(clamd.Network, clamd.Name)
		if err != nil {
			tb.Error(err)
			return
		}
		defer behind.Close()
		go func() {
			defer behind.Close()
			_, _ = io.Copy(behind, io.MultiReader(bytes.NewReader(command), conn)) // either may end it
		}()
		_, _ = io.Copy(conn, behind)
	})
}

// TestVersionOfClamd asks the real one.
func TestVersionOfClamd(t *testing.T) {
	t.Parallel()
	clamd := daemon.Run(t, daemon.Clamd{})
	c := newHandler(clamd.Unix, nil)
	c.client.version = newVersion(clamd.Unix)
	t.Cleanup(func() {
		if err := c.client.version.Close(); err != nil {
			t.Error(err)
		}
	})
	c.client.version.get(c.now())
	c.client.version.asking.Wait()
	raw := plain("Hello\r\n")
	v, err := c.Handle(t.Context(), newTransaction(t, raw))
	if err != nil || !strings.HasPrefix(v.Reason, "clean, 47 bytes, by ClamAV ") {
		t.Errorf("%d bytes: %q, %v", len(raw), v.Reason, err)
	}
}
