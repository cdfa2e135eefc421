package coretest

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/reference"
)

// documented finds that the module and each of its settings has a comment.
func documented(t *testing.T, info core.Info) {
	t.Helper()
	only := new(core.Registry)
	only.Register(described{info})
	comments := commentsOn(t, reflect.TypeOf(info.New()).Elem())
	for _, e := range reference.Entries(only, comments) {
		if e.ID != info.ID {
			continue
		}
		if e.Text == "" {
			t.Errorf("neither %s nor its package has a comment", info.ID)
		}
		for _, s := range e.Settings {
			if s.Text == "" {
				t.Errorf("the setting %s has no comment", s.Path)
			}
		}
	}
}

// commentsOn reads the comments in the packages that a module's settings are
// declared in.
func commentsOn(t *testing.T, module reflect.Type) reference.Comments {
	t.Helper()
	root, path := moduleRoot(t)
	packages := map[string]bool{module.PkgPath(): true}
	var visit func([]config.Setting)
	visit = func(list []config.Setting) {
		for _, s := range list {
			packages[s.Struct.PkgPath()] = true
			visit(s.Settings)
		}
	}
	visit(config.Reference(module))
	all := make(reference.Comments)
	for pkg := range packages {
		folder, ok := strings.CutPrefix(strings.TrimSuffix(pkg, "_test"), path)
		if !ok {
			continue
		}
		found, err := reference.Gather(flat{os.DirFS(filepath.Join(root, filepath.FromSlash(folder)))}, pkg)
		if err != nil {
			t.Fatalf("read the comments of %s: %v", pkg, err)
		}
		maps.Copy(all, found)
	}
	return all
}

// moduleRoot finds the folder of go.mod above the test's, and the import path
// there.
func moduleRoot(t *testing.T) (folder, path string) {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
		if err == nil {
			for line := range strings.Lines(string(text)) {
				if path, ok := strings.CutPrefix(line, "module "); ok {
					return folder, strings.Trim(strings.TrimSpace(path), `"`)
				}
			}
		}
		up := filepath.Dir(folder)
		if up == folder || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("find the go.mod above the test: %v", err)
		}
		folder = up
	}
}

// flat is a folder without those in it.
type flat struct{ fs.FS }

// ReadDir leaves folders out.
func (f flat) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(f.FS, name)
	var files []fs.DirEntry
	for _, e := range all {
		if !e.IsDir() {
			files = append(files, e)
		}
	}
	return files, err
}
