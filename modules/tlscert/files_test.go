package tlscert

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
)

// newFiles gives a source as Provision leaves it, for the pairs of these names
// in dir, and its log.
func newFiles(dir string, c *clock, names ...string) (*Files, *observer.ObservedLogs) {
	level, logs := observer.New(zap.InfoLevel)
	f := &Files{hostname: "mx1.example.test", now: c.now, log: zap.New(level)}
	for i, name := range names {
		f.pairs = append(f.pairs, &pairState{
			cert:   filepath.Join(dir, name+".crt"),
			key:    filepath.Join(dir, name+".key"),
			prefix: fmt.Sprintf("pair[%d].", i),
		})
	}
	return f, logs
}

func TestFilesServeTheirNames(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	a := newPair(t, "ecdsa", c.in(time.Hour*2000), "mx1.example.test")
	b := newPair(t, "rsa", c.in(time.Hour*2000), "mx2.example.test")
	a.write(t, dir, "a")
	b.write(t, dir, "b")
	f, _ := newFiles(dir, c, "a", "b")
	start(t, f)
	for name, want := range map[string]pair{"": a, "mx1.example.test": a, "mx2.example.test": b} {
		if got := certificateOf(t, f, name); !got.Leaf.Equal(want.leaf) {
			t.Errorf("%q gets another certificate", name)
		}
	}
	if cert, err := f.Certificate(hello("mx3.example.test")); cert != nil || err != nil {
		t.Errorf("an unknown name gets %v, %v", cert, err)
	}
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	old := newPair(t, "ecdsa", c.in(time.Hour*2000), "mx1.example.test")
	renewed := newPair(t, "ecdsa", c.in(time.Hour*4000), "mx1.example.test")
	old.write(t, dir, "a")
	f, logs := newFiles(dir, c, "a")
	start(t, f)
	renewed.write(t, dir, "a")
	c.advance(checkEvery - 1)
	if got := certificateOf(t, f, ""); !got.Leaf.Equal(old.leaf) {
		t.Error("the files are looked at before the time")
	}
	c.advance(1)
	if got := certificateOf(t, f, ""); !got.Leaf.Equal(renewed.leaf) {
		t.Error("the new certificate is not used")
	}
	c.advance(checkEvery)
	certificateOf(t, f, "")
	if n := logs.FilterMessage("certificate reloaded").Len(); n != 1 {
		t.Errorf("%d reloads are logged, want 1", n)
	}
}

func TestBrokenPairKeepsTheOldOne(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	old := newPair(t, "ecdsa", c.in(time.Hour*2000), "mx1.example.test")
	other := newPair(t, "ecdsa", c.in(time.Hour*2000), "mx2.example.test")
	renewed := newPair(t, "ecdsa", c.in(time.Hour*4000), "mx1.example.test")
	cert, key := old.write(t, dir, "a")
	other.write(t, dir, "b")
	f, logs := newFiles(dir, c, "a", "b")
	start(t, f)
	steps := []struct {
		what string
		do   func()
		want pair
		logs int // errors so far
	}{
		{"certificate without its key", func() { replace(t, cert, renewed.cert) }, old, 1},
		{"the same again", func() {}, old, 1},
		{"key too", func() { replace(t, key, renewed.key) }, renewed, 1},
		{"empty certificate", func() { replace(t, cert, nil) }, renewed, 2},
		{"no certificate", func() { remove("a.crt")(t, dir, nil) }, renewed, 3},
		{"still none", func() {}, renewed, 3},
		{"all well", func() { old.write(t, dir, "a") }, old, 3},
		{"broken once more", func() { replace(t, key, []byte("not PEM")) }, old, 4},
	}
	for _, step := range steps {
		step.do()
		c.advance(checkEvery)
		if got := certificateOf(t, f, "mx1.example.test"); !got.Leaf.Equal(step.want.leaf) {
			t.Errorf("%s: another certificate than expected", step.what)
		}
		if got := certificateOf(t, f, "mx2.example.test"); !got.Leaf.Equal(other.leaf) {
			t.Errorf("%s: the other pair is lost", step.what)
		}
		if n := logs.FilterLevelExact(zap.ErrorLevel).Len(); n != step.logs {
			t.Errorf("%s: %d errors logged, want %d", step.what, n, step.logs)
		}
	}
}

func TestRotationWhileHandshakesRun(t *testing.T) {
	t.Parallel()
	c, dir := newClock(), t.TempDir()
	roots := x509.NewCertPool()
	var pairs []pair
	for range 8 {
		p := newPair(t, "ecdsa", time.Now().Add(time.Hour), "mx1.example.test")
		roots.AddCert(p.leaf)
		pairs = append(pairs, p)
	}
	pairs[0].write(t, dir, "a")
	f, _ := newFiles(dir, c, "a")
	start(t, f)
	server := &tls.Config{GetCertificate: f.Certificate, SessionTicketsDisabled: true}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					handshake(t, server, &tls.Config{ServerName: "mx1.example.test", RootCAs: roots})
					c.advance(checkEvery)
				}
			}
		})
	}
	for _, p := range pairs[1:] {
		p.write(t, dir, "a")
		c.advance(checkEvery)
		handshake(t, server, &tls.Config{ServerName: "mx1.example.test", RootCAs: roots})
	}
	close(stop)
	wg.Wait()
	c.advance(checkEvery)
	if got := certificateOf(t, f, ""); !got.Leaf.Equal(pairs[7].leaf) {
		t.Error("the last certificate is not in use")
	}
}

// handshake connects a client to a server and checks that both are content.
func handshake(t *testing.T, server, client *tls.Config) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	accepted := make(chan error, 1)
	go func() { accepted <- tls.Server(far, server).Handshake() }()
	if err := tls.Client(near, client).Handshake(); err != nil {
		t.Errorf("client: %v", err)
		near.Close()
	}
	if err := <-accepted; err != nil {
		t.Errorf("server: %v", err)
	}
}

func TestStartRefusesABrokenPair(t *testing.T) {
	t.Parallel()
	f, _ := newFiles(t.TempDir(), newClock(), "absent")
	if err := f.Start(); err == nil || !strings.Contains(err.Error(), "absent.crt") {
		t.Errorf("error %v, want one that names the file", err)
	}
}

func TestFilesValidate(t *testing.T) {
	t.Parallel()
	c := newClock()
	good := newPair(t, "ecdsa", c.in(100*24*time.Hour), "mx1.example.test")
	other := newPair(t, "ecdsa", c.in(100*24*time.Hour), "mx2.example.test")
	soon := newPair(t, "ecdsa", c.in(13*24*time.Hour), "mx1.example.test")
	past := newPair(t, "ecdsa", c.in(-time.Hour), "mx1.example.test")
	future := newPair(t, "ecdsa", c.in(400*24*time.Hour), "mx1.example.test")
	mixed := pair{cert: good.cert, key: other.key}
	encrypted := pair{cert: good.cert, key: pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})}
	tests := map[string]struct {
		prepare func(t *testing.T, dir string)
		want    []string
	}{
		"good":          {put(good, 0o600), nil},
		"group may":     {put(good, 0o640), nil},
		"others can":    {put(good, 0o644), []string{"warning: pair[0].key: every user of this machine"}},
		"expires soon":  {put(soon, 0o600), []string{"warning: pair[0].cert: the certificate in a.crt expires on 2026-11-14"}},
		"expired":       {put(past, 0o600), []string{"warning: pair[0].cert: the certificate in a.crt expired on 2026-11-01"}},
		"not yet":       {put(future, 0o600), []string{"warning: pair[0].cert: the certificate in a.crt is valid from 2026-12-06 only"}},
		"another host":  {put(other, 0o600), []string{"warning: pair[0].cert: no certificate here is for mx1.example.test"}},
		"no files":      {func(*testing.T, string) {}, []string{"error: pair[0].cert: read certificate: stat a.crt: no such file"}},
		"no key":        {then(put(good, 0o600), remove("a.key")), []string{"error: pair[0].key: read key: stat a.key: no such file"}},
		"not PEM":       {then(put(good, 0o600), spoil("a.crt")), []string{"error: pair[0].cert: parse certificate in a.crt"}},
		"key not PEM":   {then(put(good, 0o600), spoil("a.key")), []string{"error: pair[0].key: parse key in a.key"}},
		"a folder":      {then(put(good, 0o600), folder("a.crt")), []string{"error: pair[0].cert: read certificate: open a.crt: it is not a regular file"}},
		"of two pairs":  {put(mixed, 0o600), []string{"error: pair[0].key: the key in a.key is not that of the certificate in a.crt"}},
		"encrypted key": {put(encrypted, 0o600), []string{"error: pair[0].key: the key in a.key is encrypted"}},
		"huge":          {put(pair{cert: make([]byte, maxFile+1), key: good.key}, 0o600), []string{"error: pair[0].cert: read certificate: read a.crt: it is larger than 1 MiB"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			test.prepare(t, dir)
			f, _ := newFiles(dir, c, "a")
			problems := f.Validate()
			if len(problems) != len(test.want) {
				t.Fatalf("problems %v, want %q", problems, test.want)
			}
			for i, p := range problems {
				got := strings.ReplaceAll(p.Severity.String()+": "+p.Attribute+": "+p.Message, dir+"/", "")
				if !strings.HasPrefix(got, test.want[i]) {
					t.Errorf("problem %q, want %q", got, test.want[i])
				}
			}
		})
	}
}

func TestFilesValidateForTheUserOfTheServer(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	put(newPair(t, "ecdsa", c.in(100*24*time.Hour), "mx1.example.test"), 0o600)(t, dir)
	f, _ := newFiles(dir, c, "a")
	f.user = &core.SystemUser{Name: "other", UID: os.Getuid() + 1, GID: os.Getgid() + 1}
	var got []string
	for _, p := range f.Validate() {
		got = append(got, p.Severity.String()+": "+p.Attribute)
		if !strings.HasPrefix(p.Message, "user other, who the server becomes, cannot read ") {
			t.Errorf("problem %q", p.Message)
		}
	}
	if diff := cmp.Diff([]string{"error: pair[0].cert", "error: pair[0].key"}, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func put(p pair, mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		_, key := p.write(t, dir, "a")
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
	}
}

func then(first func(*testing.T, string), next func(*testing.T, string, *clock)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		first(t, dir)
		next(t, dir, nil)
	}
}

func folder(name string) func(*testing.T, string, *clock) {
	return func(t *testing.T, dir string, _ *clock) {
		t.Helper()
		remove(name)(t, dir, nil)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesValidateTheAttributesTogether(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		f    *Files
		want []string
	}{
		"nothing":  {&Files{}, []string{""}},
		"cert":     {&Files{Cert: "a.crt"}, []string{"cert"}},
		"key only": {&Files{Key: "a.key"}, []string{"key"}},
	}
	for name, test := range tests {
		var got []string
		for _, p := range test.f.Validate() {
			got = append(got, p.Attribute)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestFilesFromTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := newPair(t, "ecdsa", time.Now().Add(time.Hour*2000), "mx.example.test")
	b := newPair(t, "ecdsa", time.Now().Add(time.Hour*2000), "mx.example.org")
	certA, keyA := a.write(t, dir, "a")
	certB, keyB := b.write(t, dir, "b")
	kit := coretest.New(t, coretest.Options{})
	f := coretest.Load[*Files](t, kit, "tls.files",
		fmt.Sprintf("tls \"files\" {\n cert = %q\n key = %q\n pair {\n cert = %q\n key = %q\n }\n}", certA, keyA, certB, keyB))
	for name, want := range map[string]pair{"": a, "mx.example.test": a, "mx.example.org": b} {
		if got := certificateOf(t, f, name); !got.Leaf.Equal(want.leaf) {
			t.Errorf("%q gets another certificate", name)
		}
	}
	_, err := kit.Load(t.Context(), "tls.files", fmt.Sprintf("tls \"files\" {\n cert = %q\n}", certA))
	if err == nil || !strings.Contains(err.Error(), "cert stands without key") {
		t.Errorf("error %v, want that the key is missing", err)
	}
}
