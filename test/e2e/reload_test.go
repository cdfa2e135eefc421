package e2e

import (
	"context"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// reloaded waits until the server has read its configuration once more than at a
// time, and gives why it was refused, if it was.
func (p *process) reloaded(t *testing.T, since time.Time) string {
	t.Helper()
	why := ""
	eventually(t, "the configuration is read again", func() bool {
		status := p.status(t)
		if status == nil || !status.Reloaded.After(since) {
			return false
		}
		why = status.ReloadError
		return true
	})
	return why
}

// traffic sends letters from several clients until stop is called: each a session
// for each letter, and one a session for as many as the server lets it. A server
// that changes its configuration may ask a client between two messages to come
// back; any other refusal and any connection that breaks fails the test.
func (p *process) traffic(t *testing.T, l *ledger) (stop func() (asked int)) {
	t.Helper()
	address := p.address(t, "mx")
	ctx, cancel := context.WithCancel(t.Context())
	var comeBack atomic.Int64
	client := func(letters int) {
		for ctx.Err() == nil {
			err := l.converse(ctx, address, letters)
			switch {
			case leaving(err):
				comeBack.Add(1)
			case err != nil:
				t.Errorf("while the configuration changes: %v", err)
				return
			}
		}
	}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { client(1) })
	}
	all.Go(func() { client(math.MaxInt) })
	end := sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	t.Cleanup(end)
	return func() int {
		end()
		return int(comeBack.Load())
	}
}

// converse sends letters in one session, until there are so many or ctx ends.
func (l *ledger) converse(ctx context.Context, address string, letters int) error {
	s, err := dial(address, "")
	if err != nil {
		return err
	}
	defer s.conn.Close()
	for n := 0; n < letters && ctx.Err() == nil; n++ {
		if err := l.post(s, 1000, alice+"/INBOX"); err != nil {
			return err
		}
	}
	return s.quit()
}

// TestReload changes the configuration while mail flows.
func TestReload(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	p := site.serve(t, alice, bob)
	l := newLedger(t)
	held := connect(t, p.address(t, "mx")) // in the middle of a message all the time
	if err := held.open(alice); err != nil {
		t.Fatal(err)
	}
	stop := p.traffic(t, l)
	const rounds = 10
	for round := range rounds {
		added := round%2 == 0
		with := settings{}
		if added {
			with.Alias = `"later" = ["bob"]`
		}
		site.configure(t, with)
		if round%4 < 2 {
			if out := site.do(t, "reload"); !strings.Contains(out, "in force") {
				t.Errorf("reload prints %q", out)
			}
		} else {
			since := time.Now()
			p.signal(t, syscall.SIGHUP)
			if why := p.reloaded(t, since); why != "" {
				t.Errorf("SIGHUP: %s", why)
			}
		}
		want := `550 5\.1\.1 `
		if added {
			want = `250 2\.1\.5 `
		}
		s := connect(t, p.address(t, "mx"))
		s.want(t, "EHLO client.example.org", "250")
		s.want(t, "MAIL FROM:<"+stranger+">", "250")
		s.want(t, "RCPT TO:<later@example.test>", want)
		s.want(t, "QUIT", "221")
	}
	asked := stop()
	one := l.letter(1000, alice+"/INBOX")
	if _, err := held.finish(one.wire()); err != nil {
		t.Errorf("the message that was begun before the reloads: %v", err)
	}
	l.acknowledge(one)
	if reply, err := held.reply(); err != nil || !strings.HasPrefix(reply, "421 4.3.2 ") {
		t.Errorf("a session of the old configuration goes on after its message: %q, %v", reply, err)
	}
	t.Logf("%d reloads; clients were asked %d times to come back", rounds, asked)
	l.check(t, p)
	p.stop(t)
}

// TestReloadRefused shows that a configuration with errors changes nothing.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	p := site.serve(t, alice, bob)
	l := newLedger(t)
	stop := p.traffic(t, l)
	site.configure(t, settings{Alias: `"later" = ["bob"]`, Chain: "ratelimitt {\n }"})
	place := "mox-like.hcl:" + find(t, site.validate(t), `mox-like\.hcl:(\d+:\d+)$`)

	r := run(t, site.command(t, "reload"))
	if r.code != 1 || !strings.Contains(r.stderr, `ratelimitt`) || !strings.Contains(r.stderr, place) {
		t.Errorf("reload: exit status %d, no %s in\n%s", r.code, place, r.stderr)
	}
	since := time.Now()
	p.signal(t, syscall.SIGHUP)
	if why := p.reloaded(t, since); !strings.Contains(why, "the configuration has 1 error") {
		t.Errorf("after SIGHUP the status gives %q", why)
	}
	if log := p.log(t); !strings.Contains(log, place) {
		t.Errorf("after SIGHUP the server prints no %s", place)
	}
	if out := site.do(t, "status", "--json"); !strings.Contains(out, `"running":true`) {
		t.Errorf("status prints %s", out)
	}
	s := connect(t, p.address(t, "mx"))
	s.want(t, "EHLO client.example.org", "250")
	s.want(t, "MAIL FROM:<"+stranger+">", "250")
	s.want(t, "RCPT TO:<later@example.test>", `550 5\.1\.1 `)

	site.configure(t, settings{Alias: `"later" = ["bob"]`})
	site.do(t, "reload")
	stop()
	if id, reply := p.try(t, "mx", "Subject: Once it is mended\r\n\r\n.\r\n"); id == "" {
		t.Error(reply)
	}
	if got := p.read(t, alice).subjects(t); got[len(got)-1] != "Once it is mended" {
		t.Errorf("alice has %q", got)
	}
}

// validate gives what is wrong with the configuration as it is now.
func (s *site) validate(t *testing.T) string {
	t.Helper()
	r := run(t, command(t, binary, "validate", s.file))
	if r.code != 1 {
		t.Fatalf("validate: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	return r.stdout + r.stderr
}

// TestStopDrains ends the server while one session is idle and one in the middle
// of a message.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	p := site.serve(t, alice)
	l := newLedger(t)
	idle, busy := connect(t, p.address(t, "mx")), connect(t, p.address(t, "mx"))
	idle.want(t, "EHLO client.example.org", "250")
	if err := busy.open(alice); err != nil {
		t.Fatal(err)
	}
	one := l.letter(5000, alice+"/INBOX")
	wire := one.wire()
	if _, err := busy.conn.Write(wire[:2000]); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGTERM)
	idle.want(t, "", `421 4\.3\.2 `)
	eventually(t, "no more connections are taken", func() bool {
		conn, err := dialFrom(p.address(t, "mx"), "")
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if _, err := busy.finish(wire[2000:]); err != nil {
		t.Errorf("the message that was begun: %v", err)
	}
	l.acknowledge(one)
	busy.want(t, "", `421 4\.3\.2 `)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit status %d", code)
	}
	l.check(t, site.start(t))
}
