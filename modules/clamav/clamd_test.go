package clamav

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mox-like/mox-like/core/backend"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eicar is the industry's test file, in two parts, so that no scanner takes
// this source for it.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}` + `$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// daemon is a clamd of the test's own, with one signature.
type daemon struct {
	unix, tcp backend.Address
}

// startClamd runs clamd with a few settings and those given, until the
// test ends.
func startClamd(tb testing.TB, settings ...string) daemon {
	tb.Helper()
	program := "/usr/sbin/clamd"
	if found, err := exec.LookPath("clamd"); err == nil {
		program = found
	}
	if _, err := os.Stat(program); err != nil {
		tb.Fatalf("these tests need clamd: %v; run: apt-get install --no-install-recommends clamav-daemon", err)
	}
	// The name of a test would make the socket's path too long.
	dir, err := os.MkdirTemp("", "clamd") //nolint:usetesting // see above
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	port := freePort(tb)
	signature := "Eicar-Test-Signature:0:*:" + hex.EncodeToString([]byte(eicar)) + "\n"
	writeFile(tb, filepath.Join(dir, "db", "test.ndb"), signature)
	lines := append(settings, // of what comes twice the first counts
		"Foreground yes",
		"LocalSocket "+filepath.Join(dir, "clamd.sock"),
		"TCPAddr 127.0.0.1",
		fmt.Sprint("TCPSocket ", port),
		"DatabaseDirectory "+filepath.Join(dir, "db"),
		"TemporaryDirectory "+dir,
		"OfficialDatabaseOnly no",
		"SelfCheck 0",
		"MaxScanSize 100M",
		"AlertExceedsMax yes",
		"Bytecode no",
		"PhishingSignatures no",
	)
	writeFile(tb, filepath.Join(dir, "clamd.conf"), strings.Join(lines, "\n")+"\n")
	run(tb, exec.Command(program, "--config-file="+filepath.Join(dir, "clamd.conf")))
	return daemon{
		unix: backend.Address{Network: "unix", Name: filepath.Join(dir, "clamd.sock")},
		tcp:  backend.Address{Network: "tcp", Name: fmt.Sprint("127.0.0.1:", port)},
	}
}

// run starts clamd, waits until it serves, and stops it when the test ends.
func run(tb testing.TB, clamd *exec.Cmd) {
	tb.Helper()
	output, err := clamd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	clamd.Stderr = clamd.Stdout
	if err := clamd.Start(); err != nil {
		tb.Fatalf("start clamd: %v", err)
	}
	ready := make(chan struct{})
	done := make(chan string, 1)
	go func() {
		var log strings.Builder
		for lines := bufio.NewScanner(output); lines.Scan(); {
			log.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "Self checking disabled") {
				close(ready)
			}
		}
		done <- log.String()
	}()
	select {
	case <-ready:
	case log := <-done:
		tb.Fatalf("clamd ended early: %v\n%s", clamd.Wait(), log)
	}
	tb.Cleanup(func() {
		_ = clamd.Process.Signal(syscall.SIGTERM)
		<-done
		if err := clamd.Wait(); err != nil {
			tb.Errorf("clamd did not end well: %v", err)
		}
	})
}

// freePort gives a TCP port that nobody uses.
func freePort(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func writeFile(tb testing.TB, name, content string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		tb.Fatal(err)
	}
}
