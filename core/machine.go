package core

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core/config"
)

// What follows compares the settings of the core with the machine. It touches
// nothing. Where this process may not look, nothing is said: validate needs no
// root.

// place gives the value of an attribute of a block at the top, else the block,
// else the file.
func (s *settings) place(block, attribute string) hcl.Range {
	blocks := s.file.Root.Blocks(block)
	if len(blocks) == 0 {
		return s.file.Root.DefRange
	}
	if a, ok := blocks[0].Attribute(attribute); ok {
		return a.Expr.Range()
	}
	return blocks[0].DefRange
}

// findUser finds the user of the server block, and as root checks that the user
// will be able to read the configuration again.
func (s *settings) findUser() (ds config.Diagnostics) {
	name, place := s.Server.User, s.place("server", "user")
	if name == "" {
		return nil
	}
	found, err := lookUpUser(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		ds.Errorf(place, "server/unknown-user", "this machine has no user %q", name).
			WithDetail("Make one, as by 'useradd --system %s', or correct the name.", name)
		return ds
	}
	if err != nil {
		ds.Errorf(place, "server/unknown-user", "%v", err)
		return ds
	}
	s.user = found
	if os.Geteuid() != 0 {
		return nil
	}
	for _, file := range slices.Sorted(maps.Keys(s.file.Sources)) {
		if err := s.user.CheckReadable(file); err != nil {
			ds.Warnf(place, "server/unreadable-file", "user %s cannot read %s: %v", name, file, err).
				WithDetail("The server becomes that user, and then every reload fails. Let its group read the file, as by 'chgrp %s' and 'chmod 0640'.", name)
		}
	}
	return ds
}

// checkDataDir looks who can get into the data directory if it is there.
func (s *settings) checkDataDir() (ds config.Diagnostics) {
	dir := s.Server.DataDir
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return nil // opening it tells more
	}
	place, perm := s.place("server", "data_dir"), info.Mode().Perm()
	switch {
	case perm&0o022 != 0:
		ds.Errorf(place, "server/data-dir-open", "others can write to the data directory %s (mode %04o)", dir, perm).
			WithDetail("They could put other mail and other passwords in place. Run: chmod 0700 %s", dir)
	case perm&0o055 != 0:
		ds.Warnf(place, "server/data-dir-open", "others can look into the data directory %s (mode %04o)", dir, perm).
			WithDetail("Run: chmod 0700 %s", dir)
	}
	return ds
}

// checkLog looks whether the file of the log can be one.
func (s *settings) checkLog() (ds config.Diagnostics) {
	path, place := s.logPath(), s.place("log", "output")
	if path == "" {
		return nil
	}
	info, err := os.Lstat(path)
	folder := filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
			ds.Errorf(place, "log/no-folder", "there is no folder %s for the log", folder).
				WithDetail("Make it, so that the server may write there. output is stderr, stdout or the path of a file.")
		}
	case err != nil:
		ds.Errorf(place, "log/no-file", "the log cannot be written: %v", err)
	case !info.Mode().IsRegular() && info.Mode()&fs.ModeCharDevice == 0:
		ds.Errorf(place, "log/no-file", "%s is not a regular file", path).
			WithDetail("output is stderr, stdout or the path of a file, which is made if it is not there. A link is not followed.")
	}
	return ds
}
