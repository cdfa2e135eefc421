package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/tuning"
)

// dave has an account of the domain that nobody tunes.
const dave = "dave@example.net"

// flow sends letters to a mailbox in one session after the other, or in one that
// never ends, until stop is called. A refusal that begins with one of may is what
// the test has caused; any other, and a session that the server ends, fails it.
func (p *process) flow(t *testing.T, l *ledger, to string, endless bool, may ...string) (stop func()) {
	t.Helper()
	address := p.address(t, "mx")
	ctx, cancel := context.WithCancel(t.Context())
	permitted := func(err error) bool {
		r, ok := errors.AsType[*refusal](err)
		for _, beginning := range may {
			if ok && strings.HasPrefix(r.reply, beginning) {
				return true
			}
		}
		return err == nil
	}
	client := func() error {
		s, err := dial(address, "")
		if err != nil {
			return err
		}
		defer s.conn.Close()
		for again := true; again && ctx.Err() == nil; again = endless {
			if err := l.post(s, 1000, to); err != nil {
				return err // it begins again
			}
		}
		return s.quit()
	}
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil {
			if err := client(); !permitted(err) {
				t.Errorf("mail to %s, while settings change: %v", to, err)
				return
			}
		}
	})
	end := sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	t.Cleanup(end)
	return end
}

// answered fails the test unless a recipient is answered so.
func (p *process) answered(t *testing.T, after, to, want string) {
	t.Helper()
	reply, err := p.envelope("", to)
	if err != nil || !strings.HasPrefix(reply, want) {
		t.Errorf("after %s, %s is answered with %q (%v), not %q", after, to, reply, err, want)
	}
}

// tunable has a greylist that is off, and a limit that nobody reaches.
const tunable = `# Strangers wait where a domain wants them to.
greylist {
  enabled = false
  delay   = "1h" # a long time
}
ratelimit "volume" {
  key   = "rcpt_domain"
  limit = "1000000/1h"
}`

// TestPerDomainChangeWhileMailFlows tunes example.test on a running server, while
// clients send to it and to example.net without a pause. The next message runs
// with what was changed, and nothing is refused or lost elsewhere.
func TestPerDomainChangeWhileMailFlows(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: tunable})
	p := s.serve(t, alice, dave)
	l := newLedger(t)
	var stops []func()
	for _, endless := range []bool{false, true} {
		stops = append(stops, p.flow(t, l, dave+"/INBOX", endless),
			p.flow(t, l, alice+"/INBOX", endless, "451 4.7.1 Greylisted", "450 4.7.1 Too many"))
	}
	for range 3 {
		for _, step := range []struct {
			args  []string
			alice string
		}{
			{[]string{"set", "example.test", "greylist.enabled", "true"}, "451 4.7.1 Greylisted"},
			{[]string{"set", "example.test", "greylist.mode", "monitor"}, "250 "},
			{[]string{"unset", "example.test", "greylist.mode"}, "451 4.7.1 Greylisted"},
			{[]string{"set", "example.test", "greylist.enabled", "false"}, "250 "},
			{[]string{"set", "example.test", "volume.limit", "1/1h"}, "450 4.7.1 Too many"},
			{[]string{"set", "example.test", "volume.mode", "monitor"}, "250 "},
			{[]string{"unset", "example.test", "volume.mode", "volume.limit", "greylist.enabled"}, "250 "},
		} {
			s.do(t, append([]string{"domain"}, step.args...)...)
			p.answered(t, strings.Join(step.args, " "), alice, step.alice)
			p.answered(t, strings.Join(step.args, " "), dave, "250 ")
		}
	}
	for _, stop := range stops {
		stop()
	}
	l.check(t, p)
	sent := map[string]int{}
	for _, one := range l.letters {
		if one.acknowledged {
			sent[one.to[0]]++
		}
	}
	if sent[alice+"/INBOX"] == 0 || sent[dave+"/INBOX"] == 0 {
		t.Errorf("mail has not flowed: %v", sent)
	}
	if log := p.log(t); strings.Contains(log, `"level":"error"`) || strings.Count(log, `"msg":"listening"`) != 4 {
		t.Errorf("something is wrong, or was started again:\n%s", log)
	}
}

// TestTuningRefused shows that a bad value is refused at its place and changes
// nothing, whether the server runs or not.
func TestTuningRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: tunable})
	p := s.serve(t, alice)
	s.do(t, "domain", "set", "example.test", "greylist.enabled", "true")
	refuse := func(code int, want []string, args ...string) {
		t.Helper()
		r := run(t, s.command(t, append([]string{"domain"}, args...)...))
		if r.code != code {
			t.Errorf("domain %q: exit status %d, want %d\n%s%s", args, r.code, code, r.stdout, r.stderr)
		}
		for _, part := range want {
			if !strings.Contains(r.stderr, part) {
				t.Errorf("domain %q says nothing of %q:\n%s", args, part, r.stderr)
			}
		}
	}
	all := func() {
		t.Helper()
		refuse(1, []string{"database: domain example.test:", `"soon" is not a duration`}, "set", "example.test", "greylist.delay", "soon")
		refuse(1, []string{"delay"}, "set", "example.test", "greylist.enabled", "false", "greylist.delay", "25h")
		refuse(1, []string{"delais"}, "set", "example.test", "greylist.delais", "5m")
		refuse(1, []string{"greylisted"}, "set", "example.test", "greylisted.delay", "5m")
		refuse(2, []string{"example.com"}, "set", "example.com", "greylist.delay", "5m")
		refuse(2, []string{"HANDLER.ATTRIBUTE"}, "set", "example.test", "delay", "5m")
	}
	all()
	p.answered(t, "refused changes", alice, "451 4.7.1 Greylisted, try again in 3600 seconds")
	p.stop(t)
	all()
	p = s.start(t)
	p.answered(t, "a restart", alice, "451 4.7.1 Greylisted, try again in 3")
	history := lines[tuning.Revision](t, s.do(t, "domain", "history", "example.test", "--json"))
	if len(history) != 1 {
		t.Errorf("refused changes are in the history: %+v", history)
	}
}

// TestTuningHistory goes back and forth, by numbers of changes, and looks where
// values come from.
func TestTuningHistory(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: tunable})
	p := s.serve(t, alice, dave)
	s.do(t, "domain", "set", "*", "greylist.enabled", "true", "--note", "spam wave")
	p.answered(t, "set of *", alice, "451 ")
	p.answered(t, "set of *", dave, "451 ")
	s.do(t, "domain", "set", "example.test", "greylist.delay", "10m")
	p.answered(t, "set of the delay", alice, "451 4.7.1 Greylisted, try again in ")
	s.do(t, "domain", "set", "example.test", "greylist.enabled", "false")
	p.answered(t, "set of enabled", alice, "250 ")
	p.answered(t, "set of enabled", dave, "451 ")

	list := lines[tuning.Revision](t, s.do(t, "domain", "history", "example.test", "--json"))
	if len(list) != 2 || list[0].Attribute != "enabled" || list[1].Attribute != "delay" || list[1].Before != nil || *list[1].After != `"10m"` || list[1].Actor == "" {
		t.Fatalf("domain history gives %+v", list)
	}
	find(t, s.do(t, "domain", "history", "example.test"), `greylist\.delay +unset -> "10m"`)
	find(t, s.do(t, "domain", "history", "*"), `greylist\.enabled +unset -> true .*spam wave`)
	find(t, s.do(t, "domain", "get", "example.test", "greylist.delay"), `^mx +greylist\.delay +"?10m"? +`)
	find(t, s.do(t, "domain", "get", "example.net", "greylist.delay"), `^mx +greylist\.delay +"?1h"? +.*mox-like\.hcl:`)
	if got := s.do(t, "domain", "list", "--set"); got != "*\nexample.test\n" {
		t.Errorf("domain list --set gives %q", got)
	}

	first := find(t, s.do(t, "domain", "history", "example.test"), `^(\d+) .*greylist\.delay`)
	s.do(t, "domain", "rollback", "example.test", first)
	p.answered(t, "rollback", alice, "451 ")
	p.stop(t)
	s.do(t, "domain", "rollback", "*", "0")
	p = s.start(t)
	p.answered(t, "rollback of *, with the server stopped", alice, "250 ")
	p.answered(t, "rollback of *, with the server stopped", dave, "250 ")
	find(t, s.do(t, "audit", "--object", "example.test"), ` example\.test `)
}

// TestConfigExport writes a file that means what file and database mean together,
// and runs a second server with it.
func TestConfigExport(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: tunable})
	p := s.serve(t, alice, dave)
	s.do(t, "domain", "set", "example.test", "greylist.enabled", "true", "greylist.delay", "10m")
	s.do(t, "domain", "set", "*", "volume.limit", "2/1h")
	s.do(t, "domain", "set", "example.test", "volume.enabled", "false")
	text := s.do(t, "config", "export")
	for _, comment := range []string{"# Strangers wait where a domain wants them to.", "# a long time"} {
		if !strings.Contains(text, comment) {
			t.Errorf("the export has lost the comment %q", comment)
		}
	}

	dir := t.TempDir()
	copied := &site{dir: dir, file: filepath.Join(dir, "mox-like.hcl"), data: filepath.Join(dir, "data")}
	copied.write(t, []byte(text))
	if r := run(t, command(t, binary, "validate", "--strict", copied.file)); r.code != 0 {
		t.Fatalf("validate: exit status %d\n%s%s\n%s", r.code, r.stdout, r.stderr, text)
	}
	other := copied.serve(t, alice, dave)
	for _, one := range []*process{p, other} {
		for range 4 {
			one.answered(t, "nothing more", alice, "451 4.7.1 Greylisted, try again in ")
		}
		for _, want := range []string{"250 ", "250 ", "450 4.7.1 Too many"} {
			one.answered(t, "nothing more", dave, want)
		}
	}
	effective := func(s *site) map[string]string {
		values := make(map[string]string)
		for _, domain := range []string{"example.test", "example.net"} {
			for _, e := range lines[tuning.Effective](t, s.do(t, "domain", "get", domain, "--json")) {
				values[domain+" "+e.Listener+" "+e.Handler+"."+e.Attribute] = e.Value
			}
		}
		return values
	}
	if diff := cmp.Diff(effective(s), effective(copied)); diff != "" {
		t.Errorf("what holds here and, by the export, there (-here +there):\n%s", diff)
	}
	if _, err := os.Stat(s.file); err != nil {
		t.Error(err)
	}
	if again := copied.do(t, "config", "export"); again != text {
		t.Errorf("an export of what was exported is another text (-first +second):\n%s", cmp.Diff(text, again))
	}
}

// TestTuningOfOneMessageForTwoDomains has one message judged by the settings of
// each of its recipients' domains, which differ. Its client, a Postfix, is told to
// send it twice, and each recipient gets it once.
func TestTuningOfOneMessageForTwoDomains(t *testing.T) {
	t.Parallel()
	judge := script(t, `cat >/dev/null; echo '{"action":"quarantine"}'`)
	s := newSite(t, settings{Chain: fmt.Sprintf("exec \"judge\" {\n command = [%q]\n }", judge)})
	p := s.serve(t, alice, dave)
	s.do(t, "domain", "set", "example.test", "judge.enabled", "false")
	relay, queued := postfix(t, p.address(t, "mx"))
	if r := swaks(t, "--server", relay, "--from", stranger, "--to", alice+","+dave, "--header", "Subject: For both"); r.code != 0 {
		t.Fatalf("Postfix refuses: exit status %d\n%s", r.code, r.stdout)
	}
	eventually(t, "the queue is empty", func() bool { return queued() == 0 })
	for user, want := range map[string][2]int{alice: {1, 0}, dave: {0, 1}} {
		r := p.read(t, user)
		if got := [2]int{len(r.messages(t, "INBOX")), len(r.messages(t, "Junk"))}; got != want {
			t.Errorf("%s has %d messages in INBOX and %d in Junk, want %v", user, got[0], got[1], want)
		}
	}
}

// TestTuningOutlivesACrashAndAReload kills the server after a change, takes the
// handler out of the file, and puts it back.
func TestTuningOutlivesACrashAndAReload(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: tunable})
	p := s.serve(t, alice, dave)
	s.do(t, "domain", "set", "example.test", "greylist.enabled", "true")
	p.kill()
	p = s.start(t)
	p.answered(t, "a crash", alice, "451 4.7.1 Greylisted")
	p.answered(t, "a crash", dave, "250 ")
	s.configure(t, settings{})
	s.do(t, "reload")
	p.answered(t, "a reload without the handler", alice, "250 ")
	set := lines[tuning.Setting](t, s.do(t, "domain", "get", "example.test", "--set", "--json"))
	if len(set) != 1 || set[0].InForce || set[0].Problem == "" {
		t.Errorf("domain get --set gives %+v", set)
	}
	s.configure(t, settings{Chain: tunable})
	s.do(t, "reload")
	p.answered(t, "a reload with the handler", alice, "451 4.7.1 Greylisted")
	p.answered(t, "a reload with the handler", dave, "250 ")
}

// TestTuningByManyAtOnce changes two domains and the template from many commands
// at once. None is lost, and none touches another.
func TestTuningByManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Chain: tunable})
	s.serve(t, alice)
	var all sync.WaitGroup
	const each = 5
	for _, domain := range []string{"example.test", "example.net", "*"} {
		for n := range each {
			cmd := s.command(t, "domain", "set", domain, "greylist.delay", fmt.Sprintf("%dm", n+1))
			all.Go(func() {
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %v\n%s", cmd.Args, err, out)
				}
			})
		}
	}
	all.Wait()
	for _, domain := range []string{"example.test", "example.net", "*"} {
		history := lines[tuning.Revision](t, s.do(t, "domain", "history", domain, "--json"))
		if len(history) != each {
			t.Errorf("the history of %s has %d changes, want %d", domain, len(history), each)
		}
		for i, r := range history[:max(0, len(history)-1)] {
			if r.Before == nil || *r.Before != *history[i+1].After {
				t.Errorf("change %d of %s begins at %v, and the one before ends at %v", r.ID, domain, r.Before, history[i+1].After)
			}
		}
		set := lines[tuning.Setting](t, s.do(t, "domain", "get", domain, "--set", "--json"))
		if len(set) != 1 || len(history) > 0 && set[0].Value != *history[0].After {
			t.Errorf("%s has %+v", domain, set)
		}
	}
}
