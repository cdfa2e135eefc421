package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/test/daemon"
)

// authenticator shows codes as a user's device does: oathtool works them out.
type authenticator struct {
	secret   string
	recovery []string
	began    time.Time
	shown    int
}

// code gives a code of a later step each time, so that none was used before. The
// handler must allow for so much drift.
func (a *authenticator) code(t *testing.T) string {
	t.Helper()
	code := a.at(t, a.began.Add(time.Duration(a.shown)*30*time.Second))
	a.shown++
	return code
}

func (a *authenticator) at(t *testing.T, when time.Time) string {
	t.Helper()
	r := run(t, command(t, daemon.Program(t, "oathtool"), "--totp", "--base32", fmt.Sprintf("--now=@%d", when.Unix()), a.secret))
	if r.code != 0 {
		t.Fatalf("oathtool: exit status %d\n%s", r.code, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// enrol runs user totp enrol for alice, reads the secret that it prints, and gives
// it the code that the authenticator shows then, or a wrong one.
func (s *site) enrol(t *testing.T, right bool) (*authenticator, error) {
	t.Helper()
	cmd := s.command(t, "user", "totp", "enrol", alice)
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	a := &authenticator{began: time.Now()}
	printed := bufio.NewScanner(out)
	recovery := regexp.MustCompile(`^  ([a-z0-9]{4}(?:-[a-z0-9]{4}){3})$`)
	for printed.Scan() && (len(a.recovery) < 10 || printed.Text() != "") {
		if secret, ok := strings.CutPrefix(printed.Text(), "Secret  "); ok {
			a.secret = secret
		}
		if code := recovery.FindStringSubmatch(printed.Text()); code != nil {
			a.recovery = append(a.recovery, code[1])
		}
	}
	if a.secret == "" || len(a.recovery) != 10 {
		t.Fatalf("user totp enrol shows no secret or not ten recovery codes\n%s", errs.String())
	}
	code := a.code(t)
	if !right {
		code = a.at(t, a.began.Add(-24*time.Hour))
	}
	_, err := io.WriteString(in, code+"\n")
	if _, rest := io.ReadAll(out); rest != nil {
		t.Fatal(rest)
	}
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
		return nil, fmt.Errorf("%w\n%s", err, errs.String())
	}
	return a, nil
}

// appPassword runs user app-password add for alice, and gives what it prints.
func (s *site) appPassword(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(s.do(t, append([]string{"user", "app-password", "add", alice}, args...)...))
}

// refuses fails the test unless a login as alice is refused by both protocols.
func (p *process) refuses(t *testing.T, what, secret string) {
	t.Helper()
	for protocol, try := range logins {
		reply, err := try(p, home, alice, secret)
		if err != nil || !strings.HasPrefix(reply, denied[protocol]) {
			t.Errorf("%s: by %s the server answers %q (%v)", what, protocol, reply, err)
		}
	}
}

// TestTOTPAtIMAPAndSMTP gives alice a second factor. Her password alone is good
// for nothing any more, her app passwords are for what they were made for.
func TestTOTPAtIMAPAndSMTP(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Factor: "totp {}"})
	p := s.serve(t, alice, bob)
	if _, err := s.enrol(t, false); err == nil {
		t.Fatal("user totp enrol takes a wrong code")
	}
	p.answers(t, "IMAP", home, alice, password, letIn) // nothing holds that was not confirmed
	device, err := s.enrol(t, true)
	if err != nil {
		t.Fatalf("user totp enrol: %v", err)
	}
	find(t, s.do(t, "user", "totp", "status", alice), `^`+alice+` +on .*10 recovery codes left`)
	if r := run(t, s.command(t, "user", "totp", "enrol", alice)); r.code != 2 || !strings.Contains(r.stderr, "user totp remove "+alice) {
		t.Errorf("a second enrolment: exit status %d\n%s", r.code, r.stderr)
	}
	p.refuses(t, "the password alone", password)
	p.refuses(t, "a code behind it, which alice has not asked for", password+device.code(t))
	p.answers(t, "IMAP", home, bob, password, letIn)

	both := s.appPassword(t, "--name", "laptop")
	reading := s.appPassword(t, "--name", "phone", "--scope", "imap")
	sending := s.appPassword(t, "--name", "printer", "--scope", "smtp")
	for _, test := range []struct {
		secret     string
		smtp, imap bool
	}{{both, true, true}, {reading, false, true}, {sending, true, false}} {
		for protocol, good := range map[string]bool{"SMTP": test.smtp, "IMAP": test.imap} {
			p.answers(t, protocol, home, alice, test.secret, map[bool]map[string]string{true: letIn, false: denied}[good])
		}
		p.answers(t, "SMTP", home, bob, test.secret, denied)
	}
	if code := p.curlLogin(t, home, alice, reading); code != 0 {
		t.Errorf("curl with an app password exits with %d", code)
	}
	if r := swaks(t, "--server", p.address(t, "submission"), "--tlsc", "--auth", "LOGIN", "--auth-user", alice, "--auth-password", sending,
		"--from", alice, "--to", bob, "--header", "Subject: From the printer"); r.code != 0 {
		t.Errorf("swaks with an app password: exit status %d\n%s", r.code, r.stdout)
	}
	ids := make(map[string]string)
	for _, one := range lines[control.AppPassword](t, s.do(t, "user", "app-password", "list", "--json", alice)) {
		ids[one.Name] = one.ID
		if one.LastFrom.String() != home || one.LastUsed.IsZero() {
			t.Errorf("app password %+v was not used from %s", one, home)
		}
	}
	s.do(t, "user", "app-password", "revoke", alice, ids["laptop"])
	p.refuses(t, "a revoked app password", both)
	p.answers(t, "IMAP", home, alice, reading, letIn)

	// The server need not run for any of it.
	p.stop(t)
	s.do(t, "user", "app-password", "revoke", alice, ids["phone"])
	tablet := s.appPassword(t, "--name", "tablet", "--for", "30d")
	p = s.start(t)
	p.answers(t, "IMAP", home, alice, reading, denied)
	p.answers(t, "IMAP", home, alice, tablet, letIn)
	p.refuses(t, "the password alone, after a restart", password)
	s.do(t, "user", "totp", "remove", "--yes", alice)
	for protocol := range logins {
		p.answers(t, protocol, home, alice, password, letIn)
	}
	if log := p.log(t); strings.Contains(log, device.secret) || strings.Contains(log, tablet) || strings.Contains(log, password) {
		t.Error("the log has a secret in it")
	}
}

// TestTOTPAndMbsync has a client read mail that takes the strongest mechanism that
// it is offered, with an app password.
func TestTOTPAndMbsync(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Factor: "totp {}"})
	p := s.serve(t, alice)
	if _, err := s.enrol(t, true); err != nil {
		t.Fatalf("user totp enrol: %v", err)
	}
	if id, reply := p.try(t, "mx", "Subject: Hello\r\n\r\n.\r\n"); id == "" {
		t.Fatal(reply)
	}
	local := newMaildir(t, p, s.appPassword(t, "--name", "laptop"))
	local.sync(t)
	if got := local.files(t, "INBOX"); len(got) != 1 {
		t.Errorf("mbsync has %v", got)
	}
	locked := newMaildir(t, p, password)
	if r := run(t, command(t, daemon.Program(t, "mbsync"), "--config", locked.rc, "--all")); r.code == 0 {
		t.Error("mbsync gets in with the password alone")
	}
}

// TestTOTPCodeBehindThePassword sends codes as a part of the password. Each is
// good once, also where 50 connections show it at once.
func TestTOTPCodeBehindThePassword(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Factor: "totp {\n drift = 10\n }"})
	p := s.serve(t, alice)
	device, err := s.enrol(t, true)
	if err != nil {
		t.Fatalf("user totp enrol: %v", err)
	}
	s.do(t, "user", "totp", "append-code", alice)
	p.refuses(t, "the password alone", password)
	p.refuses(t, "the code of the enrolment", password+device.at(t, device.began))
	for protocol := range logins {
		code := device.code(t)
		p.answers(t, protocol, home, alice, password+code, letIn)
		p.refuses(t, "a code replayed", password+code)
	}

	const clients = 50
	secret := password + device.code(t)
	protocols := [...]string{"SMTP", "IMAP"}
	replies, errs := make([]string, clients), make([]error, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			replies[i], errs[i] = logins[protocols[i%2]](p, fmt.Sprintf("127.0.8.%d", i+1), alice, secret)
		})
	}
	all.Wait()
	in, out := 0, 0
	for i, reply := range replies {
		switch protocol := protocols[i%2]; {
		case errs[i] != nil:
			t.Errorf("client %d: %v", i, errs[i])
		case strings.HasPrefix(reply, letIn[protocol]):
			in++
		case strings.HasPrefix(reply, denied[protocol]):
			out++
		default:
			t.Errorf("client %d by %s: the server answers %q", i, protocol, reply)
		}
	}
	if in != 1 || out != clients-1 {
		t.Errorf("of %d clients with one code %d are let in and %d are not", clients, in, out)
	}

	// Nothing tells a wrong password from a wrong code or a user who is not there.
	for protocol, try := range logins {
		id, said := regexp.MustCompile(` \(id [0-9a-z]+\)$`), []string(nil)
		for user, secrets := range map[string][]string{
			alice:                 {"wrong" + device.code(t), password + "000000", password},
			"nobody@example.test": {password + device.code(t), password},
		} {
			for _, secret := range secrets {
				reply, err := try(p, home, user, secret)
				if err != nil {
					t.Fatal(err)
				}
				said = append(said, id.ReplaceAllString(reply, ""))
			}
		}
		if slices.ContainsFunc(said, func(reply string) bool { return reply != said[0] }) {
			t.Errorf("by %s the server answers %q", protocol, said)
		}
	}

	for protocol := range logins {
		code := device.recovery[0]
		device.recovery = device.recovery[1:]
		p.answers(t, protocol, home, alice, password+code, letIn)
		p.refuses(t, "a recovery code replayed", password+code)
	}
	find(t, s.do(t, "user", "totp", "status", alice), ` 8 recovery codes left`)
	s.do(t, "user", "totp", "remove", "--yes", alice)
	p.answers(t, "IMAP", home, alice, password, letIn)
	p.refuses(t, "a code, of which nothing is known any more", password+device.code(t))
}

// TestTOTPForAll has nobody in without a second factor or an app password.
func TestTOTPForAll(t *testing.T) {
	t.Parallel()
	s := newSite(t, settings{Factor: "totp {\n enforce = \"all\"\n }"})
	p := s.serve(t, alice)
	p.refuses(t, "the password alone", password)
	secret := s.appPassword(t, "--name", "laptop")
	for protocol := range logins {
		p.answers(t, protocol, home, alice, secret, letIn)
	}
	// One domain is let off, while the server runs.
	s.do(t, "domain", "set", "example.test", "totp.enforce", "enrolled")
	for protocol := range logins {
		p.answers(t, protocol, home, alice, password, letIn)
	}
}
