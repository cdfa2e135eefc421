package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/mox-like/mox-like/test/daemon"
)

// pupilSettings have Bayes count from the fourth message of each kind on.
const pupilSettings = `
use_bayes 1
bayes_auto_learn 0
bayes_min_ham_num 4
bayes_min_spam_num 4
`

const (
	bargain = "Cheap lanterns and watches, unbeatable bargain, order your lottery voucher today."
	orchard = "The orchard meeting about apples and ladders is on Tuesday, bring your baskets."
)

// numbered makes texts different: for Bayes, one text of one second is one message.
func numbered(text string, n int) string { return fmt.Sprintf("%s\r\nThis is number %d.", text, n) }

// bayes gives the rule about Bayes that a message to a user meets, and takes the
// message away.
func (p *process) bayes(t *testing.T, user, subject, text string) string {
	t.Helper()
	id, reply := p.arrive(t, "mx", origin, robert, written(robert, subject, text), user)
	if reply != "" {
		t.Fatalf("%s is refused: %s", subject, reply)
	}
	e := p.trace(t, id).at(t, "data", "spamassassin")
	if !strings.HasPrefix(e.Reason, "score ") {
		t.Fatalf("%s: the trace says %+v", subject, e)
	}
	return regexp.MustCompile(`BAYES_\d+`).FindString(e.Reason)
}

// learned waits until a figure of the queue of lessons has a value.
func (p *process) learned(t *testing.T, name, want string) {
	t.Helper()
	eventually(t, "mox_like_learn_"+name+" is "+want, func() bool { return figure(t, p.figures(t), "mox_like_learn_"+name) == want })
}

// choose selects a mailbox and gives all messages in it.
func (r *reader) choose(t *testing.T, mailbox string) imap.SeqSet {
	t.Helper()
	if _, err := r.Select(mailbox, nil).Wait(); err != nil {
		t.Fatalf("select %s of %s: %v", mailbox, r.user, err)
	}
	return imap.SeqSet{{Start: 1, Stop: 0}}
}

// move moves all of a mailbox, as a client does that knows MOVE.
func (r *reader) move(t *testing.T, from, to string) {
	t.Helper()
	if _, err := r.Move(r.choose(t, from), to).Wait(); err != nil {
		t.Fatalf("move from %s to %s of %s: %v", from, to, r.user, err)
	}
}

// copyAway moves all of a mailbox, as a client does that does not know MOVE.
func (r *reader) copyAway(t *testing.T, from, to string) {
	t.Helper()
	set := r.choose(t, from)
	_, err := r.Copy(set, to).Wait()
	if err == nil {
		err = r.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}, nil).Close()
	}
	if err == nil {
		err = r.Expunge().Close()
	}
	if err != nil {
		t.Fatalf("copy from %s to %s of %s: %v", from, to, r.user, err)
	}
}

// hasOrchards appends messages to Junk: that teaches nothing.
func (r *reader) hasOrchards(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		if err := r.add("Junk", written(stranger, fmt.Sprintf("Orchard %d", i), numbered(orchard, i))); err != nil {
			t.Fatal(err)
		}
	}
}

// receives has bargains delivered to a user's INBOX.
func (p *process) receives(t *testing.T, user, name string, n int) {
	t.Helper()
	for i := range n {
		subject := fmt.Sprintf("%s %d", name, i)
		if _, reply := p.arrive(t, "mx", origin, robert, written(robert, subject, numbered(bargain, i)), user); reply != "" {
			t.Fatalf("%s is refused: %s", subject, reply)
		}
	}
}

// TestLearning has users teach a real spamd by moving their mail, while it is there
// and while it is not.
func TestLearning(t *testing.T) {
	t.Parallel()
	spamd := daemon.Run(t, daemon.Spamd{Settings: pupilSettings, Args: []string{"--allow-tell", "--virtual-config-dir=HOME/%u"}})
	s := newSite(t, settings{MX: balanced, More: administered, Chain: fmt.Sprintf(`
		spamassassin {
		  address    = %q
		  user       = "recipient"
		  learn      = true
		  tag        = 20
		  quarantine = 0
		  reject     = 0
		  on_error   = "continue"
		}`, spamd.Unix)})
	l := &school{process: s.serve(t, alice, bob), spamd: spamd}
	t.Run("before and after", l.learnsFromMoves)
	t.Run("what teaches nothing", l.learnsNothing)
	t.Run("spamd is back", l.learnsLater)
	t.Run("after a restart", l.learnsAfterRestart)
}

// school is a server and the spamd that it tells what users teach.
type school struct {
	*process
	spamd *daemon.Daemon
}

// learnsFromMoves teaches for alice by MOVE, and for bob by COPY and EXPUNGE.
func (p *school) learnsFromMoves(t *testing.T) {
	told := 0
	for _, user := range []struct {
		name string
		move func(r *reader, t *testing.T, from, to string)
	}{{alice, (*reader).move}, {bob, (*reader).copyAway}} {
		p.receives(t, user.name, "Bargain", 4)
		r := p.read(t, user.name)
		r.hasOrchards(t, 4)
		if rule := p.bayes(t, user.name, "Before", bargain); rule != "" {
			t.Errorf("before %s has taught anything, a message meets %s", user.name, rule)
		}
		set := r.choose(t, "INBOX")
		set = imap.SeqSet{{Start: set[0].Start, Stop: 4}}
		if _, err := r.Copy(set, "Archive").Wait(); err != nil { // teaches nothing
			t.Fatal(err)
		}
		user.move(r, t, "Junk", "INBOX")
		user.move(r, t, "Archive", "Junk")
		told += 8
		p.learned(t, "told_total", fmt.Sprint(told))
		p.learned(t, "waiting", "0")
		if rule := p.bayes(t, user.name, "After", bargain); !strings.HasPrefix(rule, "BAYES_9") {
			t.Errorf("after %s has taught, what is like spam meets %q", user.name, rule)
		}
		// Its sender is that of the spam.
		if rule := p.bayes(t, user.name, "Good", orchard); rule == "" || rule > "BAYES_50" {
			t.Errorf("after %s has taught, what is like ham meets %q", user.name, rule)
		}
	}
}

// learnsNothing moves what says nothing about spam, while spamd is away: it would
// wait.
func (p *school) learnsNothing(t *testing.T) {
	p.spamd.Kill()
	r := p.read(t, alice)
	for _, to := range []string{"Trash", "Junk"} {
		if _, err := r.Copy(r.choose(t, "Junk"), to).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	r.move(t, "Junk", "Trash")
	r.move(t, "INBOX", "Archive")
	p.learned(t, "waiting", "0")
	p.learned(t, "failed_total", "0")
}

// learnsLater teaches while spamd is away, and has it told by a reload.
func (p *school) learnsLater(t *testing.T) {
	p.receives(t, alice, "Later", 2)
	r := p.read(t, alice)
	r.move(t, "INBOX", "Junk")
	p.learned(t, "failed_total", "1")
	p.learned(t, "waiting", "2")
	p.learned(t, "failing", "1")
	if log := p.log(t); strings.Count(log, "the spam filter could not be told") != 1 || !strings.Contains(log, "check that spamd runs and listens there") {
		t.Error("the log has no line, or several, about lessons that wait")
	}
	// What they are about is thrown away meanwhile.
	r.move(t, "Junk", "Trash")
	set := r.choose(t, "Trash")
	if err := r.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	p.spamd.Restart(t)
	before := time.Now()
	p.signal(t, syscall.SIGHUP)
	if why := p.reloaded(t, before); why != "" {
		t.Fatal(why)
	}
	p.learned(t, "told_total", "18")
	p.learned(t, "waiting", "0")
	p.learned(t, "failing", "0")
}

// learnsAfterRestart teaches while spamd is away; then the server ends, by itself
// and by a crash.
func (p *school) learnsAfterRestart(t *testing.T) {
	for i, end := range []func(){func() { p.stop(t) }, func() { p.kill() }} {
		p.receives(t, alice, fmt.Sprint("Restart ", i), 3)
		p.spamd.Kill()
		r := p.read(t, alice)
		r.move(t, "INBOX", "Junk")
		_ = r.Close() // the server is about to end
		p.learned(t, "waiting", "3")
		end()
		p.spamd.Restart(t)
		p.process = p.start(t)
		p.learned(t, "told_total", "3")
		p.learned(t, "waiting", "0")
		if rule := p.bayes(t, alice, fmt.Sprint("Afterwards ", i), bargain); !strings.HasPrefix(rule, "BAYES_9") {
			t.Errorf("after restart %d what is like spam meets %q", i, rule)
		}
		p.read(t, alice).move(t, "INBOX", "Archive")
	}
}
