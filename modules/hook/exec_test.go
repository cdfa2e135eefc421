package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// newProgram gives a program that is a shell script.
func newProgram(t *testing.T, text string, arguments ...string) *program {
	t.Helper()
	return &program{path: script(t, text), arguments: arguments, log: zap.NewNop()}
}

func loadExec(t *testing.T, settings ...string) *Exec {
	t.Helper()
	return coretest.Load[*Exec](t, coretest.New(t, coretest.Options{}), "handler.exec", blockOf("exec", settings...))
}

func command(path string, arguments ...string) string {
	return fmt.Sprintf("command = [%q%s]", path, strings.Join(append([]string{""}, arguments...), ", "))
}

func TestProgramJudges(t *testing.T) {
	t.Parallel()
	kept := filepath.Join(t.TempDir(), "request")
	e := loadExec(t, command(script(t, `cat >"$1"; echo "{\"action\":\"reject\",\"code\":554,\"text\":\"No\",\"reason\":\"argument $2\",\"score\":2}"`),
		fmt.Sprintf("%q", kept), `"a b$HOME"`), `include = ["header", "body"]`)
	tx := coretest.Transaction(t, mail.StageData, 7)
	got, err := e.Handle(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	want := mail.Reject(mail.NewReply(554, 7, 1, "No"), "argument a b$HOME")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
	if tx.Score() != 2 {
		t.Errorf("score %g, want 2", tx.Score())
	}
	text, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	var sent request
	if err := json.Unmarshal(text, &sent); err != nil {
		t.Fatal(err)
	}
	if sent.ID != "message7" || sent.Stage != "data" || sent.Message == nil || string(sent.Message.Body) != "Hello.\r\n" {
		t.Errorf("the program was sent %s", text)
	}
}

// TestProgramFindsLittleAroundIt pins the environment and the folder.
func TestProgramFindsLittleAroundIt(t *testing.T) {
	t.Parallel()
	p := &program{path: "/usr/bin/env", log: zap.NewNop()}
	got, err := p.ask(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(environment[:], "\n") + "\n"; string(got) != want {
		t.Errorf("environment %q, want %q", got, want)
	}
	got, err = newProgram(t, `pwd`).ask(t.Context(), nil)
	if err != nil || string(got) != "/\n" {
		t.Errorf("folder %q, %v", got, err)
	}
}

func TestProgramsThatGoWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ script, want string }{
		"exit status":      {`echo '{"action":"continue"}'; exit 3`, "exit status 3"},
		"standard error":   {`printf 'no\033[2J\nidea' >&2; exit 1`, "exit status 1; it says: no?[2J?idea"},
		"much to complain": {`yes complaint | head -c 1000000 >&2; exit 1`, "complaint?complaint"},
		"signal":           {`kill -9 $$`, "signal: killed"},
		"huge":             {`yes '{"action":"continue"}'`, "longer than 65536 bytes"},
		"huge and blank":   {`exec cat /dev/zero`, "longer than 65536 bytes"},
		"garbage":          {`head -c 1000 /dev/urandom`, "no JSON object"},
		"nothing":          {`:`, "ends before the end"},
		"cut":              {`printf '{"action":"rej'`, "ends before the end"},
		"lying":            {`echo '{"action":"accept","code":250}'`, "for defer and reject"},
		"two answers":      {`echo '{"action":"continue"}'; echo '{"action":"reject"}'`, "something follows"},
		"output kept open": {`sleep 1000 & echo '{"action":"continue"}'`, "keeps its output open"},
		"no interpreter":   {"", "exec format error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := script(t, test.script)
			if test.script == "" {
				if err := os.WriteFile(path, []byte("\x00garbage"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			v, err := loadExec(t, command(path)).Handle(t.Context(), coretest.Transaction(t, mail.StageData, 1))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("verdict %+v, error %v, want one with %q", v, err, test.want)
			}
			if len(err.Error()) > 500 || err.Error() != mail.Printable(err.Error(), 1000) {
				t.Errorf("the error is long or not printable: %q", err)
			}
		})
	}
}

// TestProgramNeedNotRead has a program that does not read a large request.
func TestProgramNeedNotRead(t *testing.T) {
	t.Parallel()
	got, err := newProgram(t, `echo done`).ask(t.Context(), make([]byte, 4<<20))
	if err != nil || string(got) != "done\n" {
		t.Errorf("answer %q, %v", got, err)
	}
}

// fifo makes a named pipe. The end of what is read there tells that all that had
// it open for writing are gone.
func fifo(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestKillsAllAtTheDeadline has a program hang with another that it has started.
func TestKillsAllAtTheDeadline(t *testing.T) {
	t.Parallel()
	pipe := fifo(t)
	p := newProgram(t, `
		sh -c 'sleep 1000 & echo started; wait' >"$1" &
		trap '' TERM INT
		wait
		sleep 1000`, pipe)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := p.ask(ctx, []byte("{}"))
		ended <- err
	}()
	r, err := os.Open(pipe) // waits for the writer
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	line := make([]byte, len("started\n"))
	if _, err := r.Read(line); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed: context canceled") {
		t.Errorf("error %v", err)
	}
	if n, err := r.Read(line); n != 0 {
		t.Errorf("something is left that writes: %d, %v", n, err)
	}
}

// TestKillsWhatIsLeftBehind has a program answer and leave another behind.
func TestKillsWhatIsLeftBehind(t *testing.T) {
	t.Parallel()
	pipe := fifo(t)
	p := newProgram(t, `sleep 1000 >"$1" 2>&1 & echo done`, pipe)
	ended := make(chan error, 1)
	go func() {
		answer, err := p.ask(t.Context(), nil)
		if string(answer) != "done\n" {
			err = fmt.Errorf("answer %q, %w", answer, err)
		}
		ended <- err
	}()
	// The shell may open it only once its child has been killed, so that nobody
	// writes: without a writer open would wait for ever.
	r, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 {
		t.Errorf("something is left that writes: %d, %v", n, err)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`sleep 1000`, `exec sleep 1000`, `while :; do :; done`, `trap '' TERM; cat >/dev/null; sleep 1000`} {
		e := loadExec(t, command(script(t, text)))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		v, err := e.Handle(ctx, coretest.Transaction(t, mail.StageData, 1))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: verdict %+v, error %v", text, v, err)
		}
	}
}

// TestMaxRunning takes all places and has one more come, which is deferred and
// not let through.
func TestMaxRunning(t *testing.T) {
	t.Parallel()
	e := loadExec(t, command(script(t, `echo '{"action":"accept"}'`)), "max_running = 2")
	for range 2 {
		if busy, err := e.judge.gate.enter(t.Context()); busy > 0 || err != nil {
			t.Fatalf("there is no place: %s, %v", busy, err)
		}
	}
	v, err := e.Handle(hurried{t.Context()}, coretest.Transaction(t, mail.StageData, 1))
	if err != nil || v.Action != mail.ActionDefer || v.Reply.Code != 451 || !strings.Contains(v.Reason, "2 requests run") {
		t.Errorf("verdict %+v, %v of one too many", v, err)
	}
	e.judge.gate.leave()
	if v, err := e.Handle(t.Context(), coretest.Transaction(t, mail.StageData, 2)); err != nil || v.Action != mail.ActionAccept {
		t.Errorf("verdict %+v, %v once there is a place", v, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	e.judge.gate.slots <- struct{}{}
	if v, err := e.Handle(gone, coretest.Transaction(t, mail.StageData, 3)); !errors.Is(err, context.Canceled) {
		t.Errorf("verdict %+v, %v for a client that is gone", v, err)
	}
}

// TestManyAtOnce has more requests than may run, which all get their turn.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	e := loadExec(t, command(script(t, `cat >/dev/null; echo '{"action":"accept"}'`)), "max_running = 2")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if v, err := e.Handle(t.Context(), coretest.Transaction(t, mail.StageData, i)); err != nil || v.Action != mail.ActionAccept {
				t.Errorf("verdict %+v, %v", v, err)
			}
		})
	}
	wg.Wait()
}

// TestExecInAChain has an SMTP client meet programs that are in trouble.
func TestExecInAChain(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"hanging": `exec sleep 1000`,
		"crash":   `exit 1`,
		"cut":     `printf '{"action":'`,
		"garbage": `head -c 1000 /dev/urandom`,
		"huge":    `exec cat /dev/zero`,
	} {
		path := script(t, text)
		for policy, reply := range policies {
			t.Run(name+"/"+policy, func(t *testing.T) {
				t.Parallel()
				address := serve(t, blockOf("exec", command(path), fmt.Sprintf("on_error = %q", policy), `timeout = "300ms"`))
				coretest.Dialog(t, address, transfer(reply))
			})
		}
	}
}

// TestExecAtEveryStage has a program refuse at each stage.
func TestExecAtEveryStage(t *testing.T) {
	t.Parallel()
	path := script(t, `echo '{"action":"reject","code":554,"enhanced":"5.7.1","text":"No","reason":"for the test"}'`)
	for stage, dialog := range map[string]string{
		"connect": "<- 554 5.7.1 No *\nEOF",
		"helo":    "<- 220 *\n-> EHLO a.example.org\n<- 554 5.7.1 No *",
		"mail":    "<- 220 *\n-> EHLO a.example.org\n<-- 250 SIZE *\n-> MAIL FROM:<a@example.org>\n<- 554 5.7.1 No *",
		"rcpt":    "<- 220 *\n-> EHLO a.example.org\n<-- 250 SIZE *\n-> MAIL FROM:<a@example.org>\n<- 250 *\n-> RCPT TO:<user@example.test>\n<- 554 5.7.1 No *",
		"data":    transfer("554 5.7.1 No *"),
	} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			coretest.Dialog(t, serve(t, blockOf("exec", command(path), fmt.Sprintf("stage = %q", stage))), dialog)
		})
	}
}
