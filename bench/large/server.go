package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/mox-like/mox-like/bench/proc"
)

const (
	hostname = "mx.example.test"
	password = "correct horse battery staple"
	user     = "carol@example.test"
	// tick is how often what is awaited is looked for, and memory is sampled.
	tick = 20 * time.Millisecond
)

const config = `server {
  hostname = "mx.example.test"
  data_dir = "{dir}/data"
}

tls "self_signed" {}

dns {
  servers = ["{dns}"]
}

listener "smtp" "mx" {
  address          = "{mx}"
  tls              = "off"
  max_message_size = "{size}B"

  limits {
    connections_per_network = 1000
    spool                   = "{spool}B"
  }
  timeouts {
    stage = "10m"
  }
  chain {
    spf {}
    dkim_verify {}
    dmarc {}
    attachments {
      timeout = "5m"
    }
    clamav {
      address         = "unix:{dir}/clamd.sock"
      max_size        = "{size}B"
      max_connections = {scans}
      on_error        = "defer"
      timeout         = "9m"
    }
    authres {}
    deliver {}
  }
}

listener "smtp" "submission" {
  address          = "{submission}"
  tls              = "implicit"
  auth             = "required"
  max_message_size = "{size}B"

  limits {
    connections_per_network = 1000
    spool                   = "{spool}B"
  }
  timeouts {
    stage = "10m"
  }
  chain {
    password {}
    attachments {
      timeout = "5m"
    }
    clamav {
      address         = "unix:{dir}/clamd.sock"
      max_size        = "{size}B"
      max_connections = {scans}
      on_error        = "defer"
      timeout         = "9m"
    }
    dkim_sign {}
    deliver {}
  }
}

listener "imap" "imap" {
  address = "{imap}"

  chain {
    password {}
  }
}

domain "example.test" {
  dkim {
    selector = "s2026"
    key_file = "{dir}/key.pem"
  }
}
`

const clamdConfig = `Foreground yes
LocalSocket {dir}/clamd.sock
DatabaseDirectory {dir}/virus
OfficialDatabaseOnly no
TemporaryDirectory {dir}
LogFile {dir}/clamd.log
SelfCheck 0
MaxThreads {scans}
StreamMaxLength 250M
MaxFileSize 250M
MaxScanSize 500M
MaxScanTime 0
AlertExceedsMax yes
Bytecode no
PhishingSignatures no
`

// signature is one that nothing here has.
const signature = "Test.Signature:0:*:" + "6e6f7468696e6720686173207468697320746578742e\n"

// site is the server with what it needs.
type site struct {
	signer    *signer
	server    *daemon
	daemons   []*daemon
	names     *dns.Server
	addresses map[string]string
	roots     *tls.Config
	body      []byte
}

// daemon is a program that runs until stop.
type daemon struct {
	*exec.Cmd
	ended chan struct{} // closed when it has
	err   error         // how
}

// start starts all. What has been started is stopped when something fails.
func start(ctx context.Context, o *options, dir string) (*site, error) {
	s := &site{addresses: make(map[string]string), body: newBody(o.size)}
	if err := s.start(ctx, o, dir); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *site) start(ctx context.Context, o *options, dir string) (err error) {
	if s.signer, err = newSigner(); err != nil {
		return err
	}
	names, err := s.serveDNS()
	if err != nil {
		return err
	}
	replace := []string{
		"{dir}", dir, "{dns}", names, "{scans}", strconv.Itoa(o.scans),
		"{size}", strconv.Itoa(len(s.body) + 10_000), "{spool}", strconv.Itoa(3 * o.messages * len(s.body)),
	}
	for _, name := range []string{"mx", "submission", "imap"} {
		if s.addresses[name], err = proc.FreeAddress(ctx, "127.0.0.1"); err != nil {
			return err
		}
		replace = append(replace, "{"+name+"}", s.addresses[name])
	}
	if err := s.write(dir, strings.NewReplacer(replace...)); err != nil {
		return err
	}
	listens := func(ctx context.Context) error { return connects(ctx, "unix", filepath.Join(dir, "clamd.sock")) }
	if err := s.startDaemon(ctx, dir, listens, clamd(), "--config-file="+filepath.Join(dir, "clamd.conf")); err != nil {
		return err
	}
	configFile := filepath.Join(dir, "mox-like.hcl")
	for _, account := range []string{recipient, user} {
		add := exec.CommandContext(ctx, o.binary, "user", "add", account, "--password-stdin", "--config", configFile) //nolint:gosec // the operator says which
		add.Stdin = strings.NewReader(password + "\n")
		if output, err := add.CombinedOutput(); err != nil {
			return fmt.Errorf("add user: %w: %s", err, bytes.TrimSpace(output))
		}
	}
	serves := func(ctx context.Context) error {
		certificate, err := os.ReadFile(filepath.Join(dir, "data", "tls", "self_signed.crt"))
		if err != nil {
			return err
		}
		s.roots = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: hostname, MinVersion: tls.VersionTLS13}
		s.roots.RootCAs.AppendCertsFromPEM(certificate)
		return connects(ctx, "tcp", s.addresses["imap"])
	}
	if err := s.startDaemon(ctx, dir, serves, o.binary, "run", "--config", configFile); err != nil {
		return err
	}
	s.server = s.daemons[len(s.daemons)-1]
	return nil
}

// write writes the files that the programs read.
func (s *site) write(dir string, replacer *strings.Replacer) error {
	private, err := x509.MarshalPKCS8PrivateKey(s.signer.key)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "virus"), 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"mox-like.hcl": replacer.Replace(config), "clamd.conf": replacer.Replace(clamdConfig), "virus/test.ndb": signature,
		"key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// clamd gives the program, which some users do not have in their path.
func clamd() string {
	if path, err := exec.LookPath("clamd"); err == nil {
		return path
	}
	return "/usr/sbin/clamd"
}

// startDaemon starts a program and waits until it is ready.
func (s *site) startDaemon(ctx context.Context, dir string, ready func(context.Context) error, program string, args ...string) error {
	log, err := os.Create(filepath.Join(dir, fmt.Sprintf("log-%d", len(s.daemons))))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // it is stopped by stop, in order
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w (clamd is in Debian's package clamav-daemon)", program, err)
	}
	d := &daemon{Cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(d.ended)
		d.err = cmd.Wait()
	}()
	s.daemons = append(s.daemons, d)
	for {
		if ready(ctx) == nil {
			return nil
		}
		select {
		case <-time.After(tick):
		case <-d.ended:
			text, err := os.ReadFile(log.Name())
			return errors.Join(fmt.Errorf("%s ended early:\n%s", program, text), err)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", program, ctx.Err())
		}
	}
}

// connects tells whether somebody listens.
func connects(ctx context.Context, network, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// stop ends all that start started.
func (s *site) stop() error {
	var errs []error
	for _, d := range s.daemons {
		late := time.AfterFunc(20*time.Second, func() { _ = d.Process.Kill() })
		_ = d.Process.Signal(syscall.SIGTERM) // it may have ended
		<-d.ended
		late.Stop()
		if d.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.Path, d.err))
		}
	}
	if s.names != nil {
		errs = append(errs, s.names.Shutdown())
	}
	return errors.Join(errs...)
}

// serveDNS answers with what there is of example.org.
func (s *site) serveDNS() (address string, err error) {
	key, err := s.signer.record()
	if err != nil {
		return "", err
	}
	records := map[string]string{
		"example.org.":                        "v=spf1 ip4:127.0.0.1 -all",
		selector + "._domainkey.example.org.": key,
		"_dmarc.example.org.":                 "v=DMARC1; p=reject",
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.names = &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		m := new(dns.Msg).SetReply(question)
		q := question.Question[0]
		text, ok := records[strings.ToLower(q.Name)]
		if ok && q.Qtype == dns.TypeTXT {
			m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 3600}, Txt: pieces(text)}}
		} else if !ok {
			m.Rcode = dns.RcodeNameError
		}
		if e := question.IsEdns0(); e != nil {
			m.SetEdns0(1232, e.Do())
		}
		_ = w.WriteMsg(m) // who does not read it asks again
	})}
	ready := make(chan struct{})
	s.names.NotifyStartedFunc = func() { close(ready) }
	go func() { _ = s.names.ActivateAndServe() }() // until stop
	<-ready
	return packets.LocalAddr().String(), nil
}

// pieces gives a text as character-strings.
func pieces(text string) []string {
	var list []string
	for len(text) > 255 {
		list, text = append(list, text[:255]), text[255:]
	}
	return append(list, text)
}

// loads are what is measured.
func (s *site) loads(o *options) []*load {
	bodyHash := sha256.Sum256(s.body)
	sign := func(header []string, names string) (string, error) { return s.signer.sign(header, names, bodyHash) }
	return []*load{
		{
			name: "inbound", address: s.addresses["mx"], from: sender, messages: o.messages, body: s.body,
			head: func(n int) (string, error) { return newHead(sender, n, sign) }, first: "dkim=pass",
		},
		{
			name: "submission", address: s.addresses["submission"], from: user, messages: o.messages, body: s.body, login: true,
			head: func(n int) (string, error) { return newHead(user, n, nil) }, first: "d=example.test",
		},
	}
}

// check reads one message of a load back, and compares it with what was sent.
func (s *site) check(ctx context.Context, l *load) error {
	const n = 0
	head, err := l.head(n)
	if err != nil {
		return err
	}
	curl := func(path string, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "curl", append([]string{ //nolint:gosec // the arguments are our own
			"--silent", "--show-error", "--insecure", "--user", recipient + ":" + password,
			"imaps://" + s.addresses["imap"] + "/" + path,
		}, args...)...)
		var fault bytes.Buffer
		cmd.Stderr = &fault
		output, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("run curl: %w: %s", err, bytes.TrimSpace(fault.Bytes()))
		}
		return output, nil
	}
	found, err := curl(fmt.Sprintf("INBOX?HEADER%%20Message-ID%%20large.%d.%s", n, l.from))
	if err != nil {
		return err
	}
	uid := strings.TrimSpace(strings.TrimPrefix(string(found), "* SEARCH"))
	text, err := curl("INBOX;UID=" + uid)
	if err != nil {
		return err
	}
	own := len(text) - len(head) - len(l.body)
	if l.first == "dkim=pass" {
		// The signature is RSA's own and the same every time.
		if own < 0 || sha256.Sum256(text[own:]) != l.sum(head) {
			return fmt.Errorf("it has %d bytes and differs from the %d that were sent", len(text), len(head)+len(l.body))
		}
	} else if own < 0 || !bytes.HasSuffix(text, l.body) {
		return fmt.Errorf("it has %d bytes and differs from the %d that were sent", len(text), len(head)+len(l.body))
	}
	if !bytes.Contains(text[:own], []byte(l.first)) || !bytes.Contains(text[:own], []byte("X-Virus-Status: Clean")) {
		return fmt.Errorf("it came without %q or X-Virus-Status: Clean:\n%s", l.first, text[:own])
	}
	return nil
}
