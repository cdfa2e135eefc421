package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/bench/proc"
)

func TestParse(t *testing.T) {
	t.Parallel()
	if o, err := parse([]string{"--messages", "3", "--size", "20000"}, io.Discard); err != nil || o.messages != 3 || o.size != 20000 || o.limit != 300 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range []string{"--messages 0", "--messages 1001", "--size 1", "--size 1000000000", "--scans 0", "--limit -1", "more", "--duration x"} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// TestReport fails for memory over the limit, and shows the table all the same.
func TestReport(t *testing.T) {
	t.Parallel()
	results := []result{{load: "inbound", peak: memory{most: 100_000}}, {load: "submission", peak: memory{most: 300_000}}}
	for limit, want := range map[int]string{0: "", 400: "", 300: "submission took 307 MB, more than 300", 100: "inbound took 102 MB, more than 100"} {
		var b bytes.Buffer
		err := (&options{messages: 1, limit: limit}).report(&b, results)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("limit %d: %v, want %q", limit, err, want)
		}
		if !strings.Contains(b.String(), "| submission |") {
			t.Errorf("the table is\n%s", b.String())
		}
	}
}

func TestDiskIsAskedFor(t *testing.T) {
	t.Parallel()
	o := &options{dir: t.TempDir(), messages: 1000, size: 1 << 50}
	if err := o.checkDisk(); err == nil || !strings.Contains(err.Error(), "MB free") {
		t.Errorf("%v", err)
	}
}

// TestSignature verifies what a signature covers.
func TestSignature(t *testing.T) {
	t.Parallel()
	s, err := newSigner()
	if err != nil {
		t.Fatal(err)
	}
	body := newBody(10_000)
	if len(body) < 10_000 || !bytes.HasSuffix(body, []byte("\r\n")) || bytes.Contains(body, []byte("\n.")) {
		t.Errorf("a body of %d bytes, or one that would have to be changed on its way", len(body))
	}
	head, err := newHead(sender, 1, func(header []string, names string) (string, error) { return s.sign(header, names, sha256.Sum256(body)) })
	if err != nil {
		t.Fatal(err)
	}
	field, rest, _ := strings.Cut(head, "\r\n")
	signed, signature, _ := strings.Cut(field, "; b=")
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(strings.TrimSuffix(rest, "\r\n") + signed + "; b="))
	if err := rsa.VerifyPKCS1v15(&s.key.PublicKey, crypto.SHA256, digest[:], raw); err != nil {
		t.Error(err)
	}
}

func TestMemoryOfThisProcess(t *testing.T) {
	t.Parallel()
	m, err := readMemory(os.Getpid())
	if err != nil || m.resident < 1000 || m.most < m.resident/2 || m.anon < 100 || m.anon > m.most {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := proc.Time(os.Getpid()); err != nil {
		t.Error(err)
	}
}

// TestLoadEndsWithARefusal has a server that takes one message and not the other.
func TestLoadEndsWithARefusal(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			greeting := "220 mx.example.test\r\n"
			if n > 0 {
				greeting = "421 4.3.2 Too many connections\r\n"
			}
			_, _ = io.WriteString(conn, greeting) // the client may be gone
			defer conn.Close()
		}
	}()
	load := &load{address: l.Addr().String(), from: sender, messages: 2, head: func(n int) (string, error) { return newHead(sender, n, nil) }}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := load.send(ctx, nil); err == nil || !strings.Contains(err.Error(), "421 4.3.2") {
		t.Errorf("%v", err)
	}
}
