package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mox-like/mox-like/bench/proc"
)

// filtered is Postfix with filters beside it.
type filtered struct {
	*postfix
	dir     string
	filters []*process
}

func (f *filtered) pids() []int {
	pids := f.postfix.pids()
	for _, p := range f.filters {
		pids = append(pids, p.pids()...)
	}
	return pids
}

func (f *filtered) stop() error { return errors.Join(f.postfix.stop(), f.stopFilters()) }

func (f *filtered) stopFilters() error {
	var err error
	for _, p := range f.filters {
		err = errors.Join(err, p.stop())
	}
	return err
}

// first gives one message of the Maildir.
func (f *filtered) first(context.Context) ([]byte, error) {
	names, err := filepath.Glob(filepath.Join(f.dir, "mail", "alice", "new", "*"))
	if err != nil || len(names) == 0 {
		return nil, errors.Join(err, errors.New("the Maildir is empty"))
	}
	return os.ReadFile(names[0])
}

// write writes a file that the filters read, with {dir}, {hostname}, {address}, and
// its {host} and {port}.
func (f *filtered) write(name, text, address string) error {
	host, port, _ := strings.Cut(address, ":")
	words := strings.NewReplacer("{dir}", f.dir, "{hostname}", hostname, "{address}", address, "{host}", host, "{port}", port)
	return os.WriteFile(filepath.Join(f.dir, name), []byte(words.Replace(text)), 0o644) //nolint:gosec // they run as other users
}

// filter starts a milter with settings in NAME.conf and gives its address.
func (f *filtered) filter(ctx context.Context, name, settings string, args ...string) (string, error) {
	address, err := proc.FreeAddress(ctx, "127.0.0.1")
	if err != nil {
		return "", err
	}
	if err := f.write(name+".conf", settings, address); err != nil {
		return "", err
	}
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, "{dir}", f.dir)
	}
	p, err := launch(ctx, filepath.Join(f.dir, name+".log"), address, !greets, name, args...)
	if err != nil {
		return "", fmt.Errorf("run %s: %w (it is in Debian's package %s)", name, err, name)
	}
	f.filters = append(f.filters, p)
	return "inet:" + address, nil
}

// run starts Postfix with the filters, which are stopped if it does not start.
func (f *filtered) run(ctx context.Context, o postfixOptions) (*checked, error) {
	o.host = clientHost
	var err error
	if f.postfix, err = startPostfix(ctx, f.dir, o); err != nil {
		return nil, errors.Join(err, f.stopFilters())
	}
	return &checked{instance: f, first: f.first}, nil
}

const opendkimConf = `Mode v
Socket inet:{port}@{host}
Background no
UserID nobody
AuthservID {hostname}
InternalHosts {dir}/nobody
Nameservers 127.0.0.1
Syslog no
`

const opendmarcConf = `Socket inet:{port}@{host}
AuthservID {hostname}
TrustedAuthservIDs {hostname}
IgnoreHosts {dir}/nobody
RejectFailures true
SPFSelfValidate false
UserID nobody
Syslog false
`

const policydConf = `debugLevel = 0
HELO_reject = Fail
Mail_From_reject = Fail
Header_Type = AR
Authserv_Id = {hostname}
skip_addresses = 192.0.2.254/32
`

// miltersMain has Postfix ask milters.
const miltersMain = `smtpd_milters = {milters}
milter_default_action = tempfail
`

// policyMain has it ask the policy server for each recipient.
const policyMain = `smtpd_recipient_restrictions = reject_unauth_destination, check_policy_service unix:private/policyd-spf
policyd-spf_time_limit = 3600
`

const policyService = `policyd-spf unix - n n - 0 spawn user=nobody argv=/usr/bin/policyd-spf {dir}/policyd-spf.conf
`

// startFiltered starts Postfix with policyd-spf, opendkim and opendmarc.
func startFiltered(ctx context.Context, dir string, log bool) (*checked, error) {
	f := &filtered{dir: dir}
	err := errors.Join(f.write("policyd-spf.conf", policydConf, ""), f.write("nobody", "192.0.2.254\n", ""))
	if err != nil {
		return nil, err
	}
	opendkim, err := f.filter(ctx, "opendkim", opendkimConf, "-x", "{dir}/opendkim.conf")
	if err != nil {
		return nil, err
	}
	opendmarc, err := f.filter(ctx, "opendmarc", opendmarcConf, "-f", "-c", "{dir}/opendmarc.conf")
	if err != nil {
		return nil, errors.Join(err, f.stopFilters())
	}
	return f.run(ctx, postfixOptions{
		log:      log,
		main:     policyMain + strings.ReplaceAll(miltersMain, "{milters}", opendkim+", "+opendmarc),
		services: strings.ReplaceAll(policyService, "{dir}", dir),
	})
}

// rspamdConf has rspamd check who sent a message, and nothing else.
const rspamdConf = `options {
  pidfile = "{dir}/rspamd/pid";
  filters = "dkim";
  tempdir = "{dir}/rspamd";
  url_tld = "${SHAREDIR}/effective_tld_names.dat";
  cache_file = "{dir}/rspamd/symbols.cache";
  history_file = "{dir}/rspamd/history";
  history_rows = 1;
  stats_file = "{dir}/rspamd/stats";
  hs_cache_dir = "{dir}/rspamd/";
  control_socket = "{dir}/rspamd/control.sock mode=0600";
  dns { nameserver = ["127.0.0.1"]; timeout = 2s; }
}
logging { type = "console"; level = "error"; }
worker "rspamd_proxy" {
  bind_socket = "{address}";
  milter = yes;
  timeout = 120s;
  upstream "local" { default = yes; self_scan = yes; }
  count = 2;
}
lua = "$RULESDIR/rspamd.lua"
modules { path = "$PLUGINSDIR"; }
spf {}
dkim {}
dmarc {}
milter_headers {
  use = ["authentication-results"];
  skip_local = false;
  routines { authentication-results { add_smtp_user = false; } }
}
actions { reject = 15; add_header = 6; }
group "policies" {
  symbols {
    R_SPF_ALLOW { weight = -0.2; }
    R_DKIM_ALLOW { weight = -0.2; }
    DMARC_POLICY_ALLOW { weight = -0.5; }
  }
}
`

// startRspamd starts Postfix with rspamd as its milter.
func startRspamd(ctx context.Context, dir string, log bool) (*checked, error) {
	f := &filtered{dir: dir}
	owner, err := account("_rspamd")
	if err != nil {
		return nil, fmt.Errorf("find rspamd's user: %w (it comes with Debian's package rspamd)", err)
	}
	files := filepath.Join(dir, "rspamd")
	if err := errors.Join(os.Mkdir(files, 0o700), os.Chown(files, owner[0], owner[1])); err != nil {
		return nil, err
	}
	rspamd, err := f.filter(ctx, "rspamd", rspamdConf, "-f", "-u", "_rspamd", "-g", "_rspamd", "-c", "{dir}/rspamd.conf")
	if err != nil {
		return nil, err
	}
	return f.run(ctx, postfixOptions{log: log, main: strings.ReplaceAll(miltersMain, "{milters}", rspamd)})
}
