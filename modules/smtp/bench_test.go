package smtp

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/chain"
	"github.com/mox-like/mox-like/core/mail"
)

// null is a target that takes everything and keeps nothing.
type null struct{}

func (null) Handle(_ context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	for _, r := range tx.Envelope.Recipients {
		r.Delivered = true
	}
	return mail.Accept(""), nil
}

// BenchmarkMessages measures messages of 4 KB on connections that are used
// again, each command waiting for its reply or all of them in one batch. The
// budget is 100 µs of CPU a message, the client's included.
func BenchmarkMessages(b *testing.B) {
	body := strings.Repeat(strings.Repeat("x", 62)+"\r\n", 62)
	message := "From: <bob@example.org>\r\nTo: <alice@example.test>\r\nSubject: benchmark\r\n\r\n" + body + ".\r\n"
	for _, test := range []struct {
		name  string
		steps []string // what is sent before each wait
		lines []int    // how many lines come back
	}{
		{"dialog", []string{"MAIL FROM:<bob@example.org>\r\n", "RCPT TO:<alice@example.test>\r\n", "DATA\r\n", message}, []int{1, 1, 1, 1}},
		{"pipelined", []string{"MAIL FROM:<bob@example.org>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n", message}, []int{3, 1}},
		{"chunked", []string{"MAIL FROM:<bob@example.org>\r\nRCPT TO:<alice@example.test>\r\nBDAT " + fmt.Sprint(len(message)-3) + " LAST\r\n" + message[:len(message)-3]}, []int{3}},
	} {
		b.Run(test.name, func(b *testing.B) {
			k := newListener(b, options{log: zap.NewNop(), storeless: true})
			steps := []*chain.Step{{Name: "null", Handler: null{}, Stages: mail.AtRcpt | mail.AtData, Target: true}}
			k.listener.chains = chain.NewSet(chain.New(steps, chain.Options{}), nil)
			k.listen(b)
			b.ReportAllocs()
			b.SetParallelism(5)
			before := processTime(b)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				conn, err := net.Dial("tcp", k.address)
				if err != nil {
					b.Error(err)
					return
				}
				defer conn.Close()
				r := bufio.NewReader(conn)
				roundTrip(b, conn, r, "", 1)
				roundTrip(b, conn, r, "EHLO client.example.org\r\n", 8)
				for pb.Next() {
					for i, step := range test.steps {
						roundTrip(b, conn, r, step, test.lines[i])
					}
				}
			})
			b.ReportMetric(float64((processTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// roundTrip sends and reads so many lines, none of them a refusal.
func roundTrip(b *testing.B, conn net.Conn, r *bufio.Reader, text string, lines int) {
	b.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		b.Fatal(err)
	}
	for range lines {
		line, err := r.ReadSlice('\n')
		if err != nil || bytes.HasPrefix(line, []byte("4")) || bytes.HasPrefix(line, []byte("5")) {
			b.Fatalf("%q after %.40q: %v", line, text, err)
		}
	}
}

// BenchmarkConnections measures a connection a message. The client closes by a
// reset, so that the machine does not run out of ports.
func BenchmarkConnections(b *testing.B) {
	k := newKit(b, options{log: zap.NewNop(), body: "limits { connections_per_network = 1000 }"})
	b.ReportAllocs()
	before := processTime(b)
	b.ResetTimer()
	b.SetParallelism(5)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			conn, err := net.Dial("tcp", k.address)
			if err != nil {
				b.Error(err)
				return
			}
			r := bufio.NewReader(conn)
			roundTrip(b, conn, r, "", 1)
			roundTrip(b, conn, r, "EHLO client.example.org\r\n", 8)
			roundTrip(b, conn, r, "QUIT\r\n", 1)
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	})
	b.ReportMetric(float64((processTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// processTime is the CPU time of the process, which other load on the machine
// does not change.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
