package blocklist

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

func transaction(stage mail.Stage, addr string) *mail.Transaction {
	session := &mail.Session{ID: "session"}
	if addr != "" {
		session.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)
	}
	tx := mail.NewTransaction(session.ID, session, start)
	tx.Stage = stage
	return tx
}

func loadHandler(t testing.TB, sandbox *core.Sandbox, source string) *Blocklist {
	t.Helper()
	m, err := sandbox.Load(t.Context(), "handler.blocklist", source)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*Blocklist)
}

func handle(t testing.TB, b *Blocklist, stage mail.Stage, addr string) mail.Verdict {
	t.Helper()
	v, err := b.Handle(t.Context(), transaction(stage, addr))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestHandle(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "blocklist.txt")
	if err := os.WriteFile(file, []byte("# ours\n203.0.113.0/28\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := coretest.NewClock(start)
	s, sandbox, _ := open(t, "", c.Now)
	add(t, s, "198.51.100.0/24", "admin", time.Time{})
	add(t, s, "198.51.101.1/32", "bruteforce", start.Add(time.Hour))
	const settings = `
		networks = ["192.0.2.0/24", "2001:db8::/32"]
		allow    = ["192.0.2.7/32", "198.51.100.7/32"]`
	all := loadHandler(t, sandbox, "blocklist {"+settings+"\nfile = \""+file+"\"\n}")
	some := loadHandler(t, sandbox, "blocklist {\nsources = [\"bruteforce\"]\naction = \"defer\"\n}")
	const rejected = "554 5.7.1 Your network is blocked here; if this is a mistake, tell postmaster@mx.example.test from elsewhere"
	deferred := strings.Replace(rejected, "554 5.7.1", "421 4.7.0", 1)
	tests := []struct {
		name    string
		handler *Blocklist
		stage   mail.Stage
		addr    string
		reply   string
		reason  string
	}{
		{"settings", all, mail.StageConnect, "192.0.2.1", rejected, "192.0.2.0/24 is blocked by the settings"},
		{"mapped", all, mail.StageConnect, "::ffff:192.0.2.1", rejected, "192.0.2.0/24 is blocked by the settings"},
		{"settings, IPv6", all, mail.StageConnect, "2001:db8::1", rejected, "2001:db8::/32 is blocked by the settings"},
		{"allowed", all, mail.StageConnect, "192.0.2.7", "", "192.0.2.7 is in 192.0.2.7/32, which the settings allow"},
		{"allowed though in the database", all, mail.StageConnect, "198.51.100.7", "", "198.51.100.7 is in 198.51.100.7/32, which the settings allow"},
		{"file", all, mail.StageConnect, "203.0.113.3", rejected, "203.0.113.0/28 is blocked by the file " + file},
		{"beside the file's", all, mail.StageConnect, "203.0.113.16", "", "not blocked, by any source, by the settings (2), by the file " + file + " (1)"},
		{"admin", all, mail.StageConnect, "198.51.100.1", rejected, "198.51.100.0/24 is blocked by admin: test; see: mox-like blocklist why 198.51.100.1"},
		{"with an end", all, mail.StageConnect, "198.51.101.1", rejected, "198.51.101.1/32 is blocked by bruteforce until 2026-11-20T13:00:00Z: test; see: mox-like blocklist why 198.51.101.1"},
		{"source that does not count", some, mail.StageConnect, "198.51.100.1", "", "not blocked, by bruteforce"},
		{"login, not blocked", some, mail.StageAuth, "198.51.100.1", "", "198.51.100.1 is not blocked, by bruteforce"},
		{"source that counts", some, mail.StageConnect, "198.51.101.1", deferred, "198.51.101.1/32 is blocked by bruteforce until 2026-11-20T13:00:00Z: test; see: mox-like blocklist why 198.51.101.1"},
		{"login", all, mail.StageAuth, "192.0.2.1", rejected, "192.0.2.0/24 is blocked by the settings"},
		{"login deferred", some, mail.StageAuth, "198.51.101.1", strings.Replace(deferred, "421", "454", 1), "198.51.101.1/32 is blocked by bruteforce until 2026-11-20T13:00:00Z: test; see: mox-like blocklist why 198.51.101.1"},
		{"no address", all, mail.StageConnect, "", "", "the client has no address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := handle(t, tt.handler, tt.stage, tt.addr)
			reply := ""
			if v.Action != mail.ActionContinue {
				reply = v.Reply.String()
			}
			if reply != tt.reply || v.Reason != tt.reason {
				t.Errorf("reply %q, reason %q, want %q, %q", reply, v.Reason, tt.reply, tt.reason)
			}
		})
	}
	c.Add(time.Hour)
	if v := handle(t, all, mail.StageConnect, "198.51.101.1"); v.Action != mail.ActionContinue {
		t.Errorf("refused after the end of the block: %s", v.Reason)
	}
}

// users is a service that spares one address from the blocks of bruteforce.
type users struct{ addr netip.Addr }

func (u *users) Module() core.Info {
	return core.Info{ID: "service.users", New: func() core.Module { return u }}
}

func (u *users) Spares(source string, addr netip.Addr, _ time.Time) bool {
	return source == "bruteforce" && addr == u.addr
}

func TestUsersAreSpared(t *testing.T) {
	t.Parallel()
	const addr = "192.0.2.1"
	s, sandbox, _ := open(t, "", nil)
	b := loadHandler(t, sandbox, "blocklist {}")
	b.users = []sparer{&users{addr: netip.MustParseAddr(addr)}}
	add(t, s, "192.0.2.0/24", "bruteforce", time.Time{})
	if v := handle(t, b, mail.StageConnect, addr); v.Action != mail.ActionContinue || !strings.Contains(v.Reason, "users have logged in from this address") {
		t.Errorf("%s, %q", v.Action, v.Reason)
	}
	if v := handle(t, b, mail.StageConnect, "192.0.2.2"); v.Action != mail.ActionReject {
		t.Errorf("a neighbour: %s, %q", v.Action, v.Reason)
	}
	add(t, s, "192.0.2.0/25", "admin", time.Time{})
	if v := handle(t, b, mail.StageConnect, addr); v.Action != mail.ActionReject || !strings.Contains(v.Reason, "by admin") {
		t.Errorf("blocked by another source too: %s, %q", v.Action, v.Reason)
	}
	if _, err := s.RemoveBlock(t.Context(), prefix("192.0.2.0/25")); err != nil {
		t.Fatal(err)
	}
	importList(t, s, "drop", time.Time{}, "192.0.0.0/16")
	if v := handle(t, b, mail.StageConnect, addr); v.Action != mail.ActionReject || !strings.Contains(v.Reason, "by drop") {
		t.Errorf("blocked by a list too: %s, %q", v.Action, v.Reason)
	}
}

func TestSettingsAreRefused(t *testing.T) {
	t.Parallel()
	_, sandbox, _ := open(t, "", nil)
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.txt")
	if err := os.WriteFile(bad, []byte("192.0.2.1\nspammers\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ settings, want string }{
		"everything": {`networks = ["0.0.0.0/0"]`, "whole internet"},
		"no file":    {`file = "` + filepath.Join(dir, "missing.txt") + `"`, "missing.txt: no such file"},
		"folder":     {`file = "` + dir + `"`, "it is not a file"},
		"bad file":   {`file = "` + bad + `"`, bad + `, line 2, "spammers": this is no network`},
		"source":     {`sources = ["a b"]`, `source is "a b"`},
		"action":     {`action = "drop"`, "action"},
		"network":    {`networks = ["192.0.2.1/24"]`, "networks"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := sandbox.Load(t.Context(), "handler.blocklist", "blocklist {\n"+tt.settings+"\n}")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestFileIsReadOnce finds that the instances which domains make of the handler
// share what the file says, and that a changed file is read again.
func TestFileIsReadOnce(t *testing.T) {
	t.Parallel()
	_, sandbox, _ := open(t, "", nil)
	path := filepath.Join(t.TempDir(), "blocklist.txt")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	load := func(settings string) *Blocklist {
		return loadHandler(t, sandbox, "blocklist {\nfile = \""+path+"\"\n"+settings+"\n}")
	}
	write("192.0.2.1\n2001:db8::/32\n")
	first, second := load(""), load(`allow = ["198.51.100.0/24"]`)
	if &first.fileList.v4[0] != &second.fileList.v4[0] || &first.fileList.v6[0] != &second.fileList.v6[0] {
		t.Error("two instances hold the same file twice")
	}
	write("192.0.2.2\n2001:db8::/32\n")
	third := load("")
	for addr, want := range map[string][3]mail.Action{
		"192.0.2.1": {mail.ActionReject, mail.ActionReject, mail.ActionContinue},
		"192.0.2.2": {mail.ActionContinue, mail.ActionContinue, mail.ActionReject},
	} {
		for i, b := range []*Blocklist{first, second, third} {
			if v := handle(t, b, mail.StageConnect, addr); v.Action != want[i] {
				t.Errorf("%s, instance %d: %s, want %s", addr, i, v.Action, want[i])
			}
		}
	}
}

// TestFileIsMended finds that a file which was wrong is read again, though it
// looks the same.
func TestFileIsMended(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "blocklist.txt")
	f := &listFile{path: path}
	for _, text := range []string{"192.0.2", "192.0.2.1"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		networks, err := f.networks()
		if (err == nil) != (networks.len() == 1) || (err == nil) != (text == "192.0.2.1") {
			t.Errorf("%s: %d networks, %v", text, networks.len(), err)
		}
	}
}
