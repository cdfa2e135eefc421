package core_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core"
)

func TestDiagnosticsOfTheMachine(t *testing.T) {
	t.Parallel()
	logTo := func(output string) string { return head + "log {\n  output = \"" + output + "\"\n}\n" }
	userIs := func(name string) string {
		return "server {\n  hostname = \"mx.example.test\"\n  user     = \"" + name + "\"\n}\n"
	}
	dataDir := "server {\n  hostname = \"mx.example.test\"\n  data_dir = \"data\"\n}\n"
	tests := map[string]struct {
		text    string
		prepare func(t *testing.T, dir string)
		want    []string
	}{
		"log beside the file": {logTo("mox-like.log"), nil, nil},
		"log is there":        {logTo("mox-like.hcl"), nil, nil},
		"log is a URL":        {logTo("file://localhost/tmp/log"), nil, []string{"6: log/no-folder"}},
		"log without folder":  {logTo("none/log"), nil, []string{"6: log/no-folder"}},
		"log is a folder":     {logTo("data"), makeDir(0o700), []string{"6: log/no-file"}},
		"log below a file":    {logTo("mox-like.hcl/log"), nil, []string{"6: log/no-file"}},
		"log is a link": {logTo("link"), func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Symlink("mox-like.hcl", filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
		}, []string{"6: log/no-file"}},
		"no such user":            {userIs("no-such-user"), nil, []string{"3: server/unknown-user"}},
		"data dir of its own":     {dataDir, makeDir(0o700), nil},
		"data dir can be seen":    {dataDir, makeDir(0o750), []string{"3: server/data-dir-open"}},
		"data dir of a group":     {dataDir, makeDir(0o770), []string{"3: server/data-dir-open"}},
		"data dir of everybody":   {dataDir, makeDir(0o777), []string{"3: server/data-dir-open"}},
		"data dir is yet to come": {dataDir, nil, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := file(t, tt.text)
			if tt.prepare != nil {
				tt.prepare(t, filepath.Dir(path))
			}
			ds, _ := core.Validate(core.Options{ConfigFile: path, Registry: newRegistry(new(journal))})
			if diff := cmp.Diff(tt.want, codes(ds)); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s\n%v", diff, ds)
			}
		})
	}
}

func makeDir(mode os.FileMode) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		dir = filepath.Join(dir, "data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServerRefusesADataDirThatOthersCanWriteTo(t *testing.T) {
	t.Parallel()
	o := options(t, file(t, serving), newRegistry(new(journal)))
	makeDir(0o777)(t, filepath.Dir(o.DataDir))
	ds, _, err := core.NewServer(o).Start(t.Context())
	if err == nil || !ds.HasErrors() {
		t.Errorf("the server starts: %v", err)
	}
	if _, ds, _, err := core.OpenOffline(t.Context(), o); err == nil || !ds.HasErrors() {
		t.Errorf("a command opens it: %v", err)
	}
}

func TestSystemUserCheckReadable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make folders that lead to another user's files")
	}
	tests := map[string]struct {
		fileMode, dirMode os.FileMode
		uid, gid          int
		want              string
	}{
		"for all":        {0o644, 0o755, 0, 0, ""},
		"for the owner":  {0o400, 0o700, 4711, 0, ""},
		"for the group":  {0o640, 0o750, 0, 4712, ""},
		"for root":       {0o600, 0o755, 0, 0, "key"},
		"not for owner":  {0o044, 0o755, 4711, 0, "key"},
		"not for group":  {0o604, 0o755, 0, 4712, "key"},
		"closed folder":  {0o644, 0o744, 0, 0, "dir"},
		"folder of user": {0o644, 0o100, 4711, 0, ""},
	}
	user := &core.SystemUser{Name: "other", UID: 4711, GID: 4710, Groups: []int{4712}}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			dir := filepath.Join(base, "dir")
			key, link := filepath.Join(dir, "key"), filepath.Join(base, "link")
			for _, err := range []error{
				os.Chmod(base, 0o755), os.Chmod(filepath.Dir(base), 0o755), os.Mkdir(dir, 0o700), os.WriteFile(key, nil, 0o600), os.Symlink(key, link),
				os.Chmod(key, tt.fileMode), os.Chmod(dir, tt.dirMode),
				os.Chown(key, tt.uid, tt.gid), os.Chown(dir, tt.uid, tt.gid),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, path := range []string{key, link} {
				err := user.CheckReadable(path)
				if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want+" belongs to user") {
					t.Errorf("%s: %v, want %q", filepath.Base(path), err, tt.want)
				}
			}
		})
	}
}

func TestLogFileIsOpenedAgain(t *testing.T) {
	t.Parallel()
	path := file(t, serving+"log {\n  output = \"mox-like.log\"\n  level  = \"warn\"\n}\n")
	o := options(t, path, newRegistry(new(journal)))
	o.Logger = nil
	s := start(t, o)
	log := filepath.Join(filepath.Dir(path), "mox-like.log")
	if info, err := os.Stat(log); err != nil || info.Size() != 0 || info.Mode().Perm()&^0o640 != 0 {
		t.Fatalf("the log: %v (%v), want an empty file that others cannot read", info, err)
	}
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	// A file with errors has it opened again, too.
	write(t, path, "server {}")
	if _, _, err := s.Reload(context.WithoutCancel(t.Context())); err == nil {
		t.Fatal("a wrong file is reloaded")
	}
	want(t, log, "reload refused")
	// The level holds at once.
	write(t, path, serving+"log {\n  output = \"mox-like.log\"\n  level  = \"info\"\n}\n")
	if ds, _, err := s.Reload(t.Context()); err != nil || len(ds) != 0 {
		t.Fatal(err, ds)
	}
	want(t, log, "configuration reloaded")
	if text, err := os.ReadFile(log + ".1"); err != nil || len(text) != 0 {
		t.Errorf("the old file has %q (%v)", text, err)
	}
}

func want(t *testing.T, path, text string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !strings.Contains(string(got), text) {
		t.Errorf("%s has %q (%v), want %q", path, got, err, text)
	}
}
