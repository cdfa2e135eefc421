package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mox-like/mox-like/core/control"
)

// patience is how long a script waits for what must happen.
const patience = time.Minute

// eventually asks again and again until done says so.
func eventually(ts *testscript.TestScript, what string, done func() bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			ts.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// ports NAME... sets environment variables to ports that are free.
func ports(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: ports NAME...")
	}
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close()
		ts.Setenv(name, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
}

// occupy NAME takes a port until the script ends, and sets a variable to it.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy NAME")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	ts.Defer(func() { l.Close() })
}

// status asks the server on a data directory; nil if none answers.
func status(ts *testscript.TestScript, dir string) *control.Status {
	client, err := control.Connect(context.Background(), ts.MkAbs(dir))
	if errors.Is(err, control.ErrNotRunning) {
		return nil
	}
	ts.Check(err)
	s, err := client.Status(context.Background())
	ts.Check(client.Close())
	if err != nil {
		return nil // it stops just now
	}
	return s
}

// serving DIR waits until a server runs on a data directory; gone DIR, until none
// does.
func serving(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serving DIR")
	}
	eventually(ts, "a server runs on "+args[0], func() bool { return status(ts, args[0]) != nil })
}

func gone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone DIR")
	}
	eventually(ts, "no server runs on "+args[0], func() bool { return status(ts, args[0]) == nil })
}

// sendSignal SIGNAL DIR signals the process that has a data directory's lock.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	if neg || len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal {TERM | INT | HUP | KILL} DIR")
	}
	text, err := os.ReadFile(ts.MkAbs(filepath.Join(args[1], "lock")))
	ts.Check(err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, signals[args[0]]))
}

// showing FILE PATTERN waits until a file, which a command in the background
// writes, has a line that matches.
func showing(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: showing FILE PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	eventually(ts, args[0]+" shows "+args[1], func() bool {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && pattern.Match(text)
	})
}

// smtp DIR LISTENER DIALOG speaks with a listener of the server on a data
// directory: lines "-> text" are sent, and for each line "<- pattern" a reply is
// read, which must match. Named groups become environment variables.
func smtpDialog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: smtp DIR LISTENER DIALOG")
	}
	network, where := "tcp", address(ts, args[0], args[1])
	if path, ok := strings.CutPrefix(where, "unix:"); ok {
		network, where = "unix", path
	}
	conn, err := net.Dial(network, where)
	ts.Check(err)
	defer conn.Close()
	ts.Check(conn.SetDeadline(time.Now().Add(patience)))
	replies := bufio.NewReader(conn)
	for line := range strings.Lines(ts.ReadFile(args[2])) {
		text := strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(text, "-> "), text == "->":
			_, err := io.WriteString(conn, strings.TrimPrefix(strings.TrimPrefix(text, "->"), " ")+"\r\n")
			ts.Check(err)
		case strings.HasPrefix(text, "<- "):
			expect(ts, replies, strings.TrimPrefix(text, "<- "))
		case text != "":
			ts.Fatalf("%s: the line %q is neither -> nor <-", args[2], text)
		}
	}
}

// expect reads a reply and compares its last line.
func expect(ts *testscript.TestScript, replies *bufio.Reader, pattern string) {
	reply := ""
	for len(reply) < 4 || reply[3] == '-' {
		line, err := replies.ReadString('\n')
		ts.Check(err)
		reply = strings.TrimSuffix(line, "\r\n")
		ts.Logf("<- %s", reply)
	}
	re, err := regexp.Compile("^(?:" + pattern + ")")
	ts.Check(err)
	found := re.FindStringSubmatch(reply)
	if found == nil {
		ts.Fatalf("the reply %q does not match %q", reply, pattern)
	}
	for i, name := range re.SubexpNames() {
		if name != "" {
			ts.Setenv(name, found[i])
		}
	}
}

// address gives where a listener listens.
func address(ts *testscript.TestScript, dir, listener string) string {
	s := status(ts, dir)
	if s == nil {
		ts.Fatalf("no server runs on %s", dir)
	}
	for _, l := range s.Listeners {
		if l.Name == listener {
			return l.Addresses[0]
		}
	}
	ts.Fatalf("there is no listener %q", listener)
	return ""
}

// managers are the sockets of the scripts that are service managers, by their
// directory.
var managers sync.Map // string to *net.UnixConn

// notify makes the script a service manager, see sd_notify(3).
func notifySocket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: notify")
	}
	// The directory of the script may have too long a path for a socket.
	dir, err := os.MkdirTemp("", "notify")
	ts.Check(err)
	name := filepath.Join(dir, "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	ts.Check(err)
	ts.Defer(func() { ts.Check(errors.Join(conn.Close(), os.RemoveAll(dir))) })
	ts.Setenv("NOTIFY_SOCKET", name)
	managers.Store(ts.Getenv("WORK"), conn)
}

// notified PATTERN... waits for messages that match, in this order.
func notified(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: notified PATTERN...")
	}
	found, ok := managers.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("notified without notify")
	}
	conn := found.(*net.UnixConn)
	ts.Check(conn.SetReadDeadline(time.Now().Add(patience)))
	buffer := make([]byte, 4096)
	for _, text := range args {
		pattern, err := regexp.Compile(text)
		ts.Check(err)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				ts.Fatalf("wait for %q: %v", text, err)
			}
			ts.Logf("notified: %q", buffer[:n])
			if pattern.Match(buffer[:n]) {
				break
			}
		}
	}
}

// activate COMMAND ARGS... is a service manager that binds a socket, gives the
// port as the configuration's variable port, and becomes the command, see
// sd_listen_fds(3).
func activate() {
	if err := activateCommand(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "activate:", err)
		os.Exit(2)
	}
}

func activateCommand(args []string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	const firstFD = 3
	if int(f.Fd()) != firstFD {
		if err := syscall.Dup3(int(f.Fd()), firstFD, 0); err != nil {
			return err
		}
	} else if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, firstFD, syscall.F_SETFD, 0); errno != 0 {
		return errno
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	env := append(os.Environ(),
		"LISTEN_PID="+strconv.Itoa(os.Getpid()), "LISTEN_FDS=1",
		"MOXLIKE_VAR_port="+strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	return syscall.Exec(path, args, env)
}

// hold DIR LISTENER begins to send a message to alice, says so in the file held,
// and waits until the server ends the session.
func hold() {
	if err := holdSession(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "hold:", err)
		os.Exit(2)
	}
}

func holdSession(dir, listener string) error {
	client, err := control.Connect(context.Background(), dir)
	if err != nil {
		return err
	}
	s, err := client.Status(context.Background())
	if err = errors.Join(err, client.Close()); err != nil {
		return err
	}
	i := slices.IndexFunc(s.Listeners, func(l control.Listener) bool { return l.Name == listener })
	conn, err := net.Dial("tcp", s.Listeners[i].Addresses[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	for _, command := range []string{"", "EHLO client.example.org\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<alice@example.test>\r\n", "DATA\r\n"} {
		if _, err := io.WriteString(conn, command); err != nil {
			return err
		}
		for more := true; more; {
			reply, err := lines.ReadString('\n')
			if err != nil {
				return err
			}
			more = len(reply) > 3 && reply[3] == '-'
		}
	}
	if _, err := io.WriteString(conn, "Subject: never to end\r\n"); err != nil {
		return err
	}
	if err := os.WriteFile("held", []byte("held\n"), 0o600); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, lines)
	return err
}
