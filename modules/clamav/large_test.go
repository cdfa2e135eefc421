package clamav

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/test/daemon"
)

// largeSize is how long the messages of these tests are.
const largeSize = 100 << 20

// large gives a message of 100 MB in a file, as it comes from a listener, with
// something at its end.
func large(tb testing.TB, head, end string) *mail.Message {
	tb.Helper()
	spool := mail.NewSpool(tb.TempDir(), 256<<10)
	tb.Cleanup(func() {
		if err := spool.Close(); err != nil {
			tb.Error(err)
		}
	})
	w := bufio.NewWriterSize(spool, 1<<20)
	_, _ = w.WriteString(head) // the error is that of Flush
	line := strings.Repeat("Some text of a line in a message. ", 2) + "\r\n"
	for written := len(head) + len(end); written+len(line) <= largeSize; written += len(line) {
		_, _ = w.WriteString(line)
	}
	_, _ = w.WriteString(end)
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	message, err := spool.Message()
	if err != nil {
		tb.Fatal(err)
	}
	return message
}

// allocated tells how many bytes do allocates in all, which memory cannot grow
// beyond.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func scanLarge(tb testing.TB, c *ClamAV, m *mail.Message) mail.Verdict {
	tb.Helper()
	tx := mail.NewTransaction("test", new(mail.Session), time.Now())
	tx.Message = m
	v, err := c.Handle(tb.Context(), tx)
	if err != nil {
		tb.Error(err)
	}
	return v
}

// TestLargeMessages has a real clamd look at messages of 100 MB, whose end is what
// counts.
func TestLargeMessages(t *testing.T) {
	clamd := daemon.Run(t, daemon.Clamd{Settings: []string{"StreamMaxLength 200M", "MaxFileSize 200M", "MaxScanSize 400M"}})
	const head = "From: a@example.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"x\"\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\n"
	file := func(name string, content []byte) string {
		return "\r\n--x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=" +
			name + "\r\n\r\n" + base64.StdEncoding.EncodeToString(content) + "\r\n--x--\r\n"
	}
	tests := []struct {
		name, head, end string
		want            mail.Action
	}{
		{"clean", head, file("file.bin", []byte("Nothing.")), mail.ActionContinue},
		{"plain", "From: a@example.test\r\n\r\n", daemon.EICAR + "\r\n", mail.ActionReject},
		{"base64", head, file("file.bin", []byte(daemon.EICAR)), mail.ActionReject},
		{"zip", head, file("file.zip", zipped(t, []byte(daemon.EICAR))), mail.ActionReject},
	}
	c := newHandler(clamd.Unix, func(c *ClamAV) { c.MaxSize = largeSize })
	messages := make([]*mail.Message, len(tests))
	for i, tt := range tests {
		messages[i] = large(t, tt.head, tt.end)
	}
	used := allocated(func() {
		var wg sync.WaitGroup
		for i, tt := range tests {
			wg.Go(func() {
				if got := scanLarge(t, c, messages[i]); got.Action != tt.want {
					t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
				}
			})
		}
		wg.Wait()
	})
	if used > 2<<20 {
		t.Errorf("scanning %d messages of 100 MB allocates %d bytes", len(tests), used)
	}
}

// TestManyLargeMessages has 20 of them scanned at once, by a clamd that reads as
// fast as it can, so that all are under way together.
func TestManyLargeMessages(t *testing.T) {
	const many = 20
	var all sync.WaitGroup
	all.Add(many)
	address := fake(t, func(conn net.Conn) {
		var first [1]byte
		if _, err := io.ReadFull(conn, first[:]); err != nil {
			return
		}
		all.Done()
		all.Wait()
		readStream(conn)
		reply(conn, "stream: OK\x00")
	})
	c := newHandler(address, func(c *ClamAV) { c.MaxSize, c.MaxConnections = largeSize, many })
	m := large(t, "From: a@example.test\r\n\r\n", "")
	used := allocated(func() {
		var wg sync.WaitGroup
		for range many {
			wg.Go(func() {
				if v := scanLarge(t, c, m); v.Action != mail.ActionContinue || !strings.HasPrefix(v.Reason, "clean") {
					t.Errorf("got %v", v)
				}
			})
		}
		wg.Wait()
	})
	if used > 8<<20 {
		t.Errorf("scanning %d messages of 100 MB at once allocates %d bytes", many, used)
	}
}
