package core

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// SystemUser is a user of this machine.
type SystemUser struct {
	Name     string
	UID, GID int
	Groups   []int
}

// lookUpUser finds a user; user.UnknownUserError if there is none.
func lookUpUser(name string) (*SystemUser, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	ids, err := found.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("look up groups of user %s: %w", name, err)
	}
	var numbers []int
	for _, text := range append([]string{found.Uid, found.Gid}, ids...) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("look up user %s: %w", name, err)
		}
		numbers = append(numbers, n)
	}
	return &SystemUser{Name: name, UID: numbers[0], GID: numbers[1], Groups: numbers[2:]}, nil
}

// CheckReadable tells what keeps the user from reading a file: the owner, group
// and mode of it and of the folders above. It is nil where nothing does or nothing can
// be told, as where there is an access control list, and for no user.
func (u *SystemUser) CheckReadable(path string) error {
	if u == nil || u.UID == 0 {
		return nil
	}
	names := []string{path}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		names = []string{target, path}
	}
	for _, name := range names {
		name, err := filepath.Abs(name)
		if err != nil {
			return err
		}
		const read, search = 4, 1
		for want := fs.FileMode(read); ; want = search {
			if err := u.check(name, want); err != nil {
				return err
			}
			above := filepath.Dir(name)
			if above == name {
				break
			}
			name = above
		}
	}
	return nil
}

// check compares one bit of a mode, as for others.
func (u *SystemUser) check(name string, want fs.FileMode) error {
	info, err := os.Stat(name)
	if err != nil {
		return nil //nolint:nilerr // nothing can be told
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	perm := info.Mode().Perm()
	switch gid := int(owner.Gid); {
	case int(owner.Uid) == u.UID:
		perm >>= 6
	case gid == u.GID || slices.Contains(u.Groups, gid):
		perm >>= 3
	}
	if perm&want == 0 && !hasACL(name) {
		return fmt.Errorf("%s belongs to user %d and group %d and has mode %04o", name, owner.Uid, owner.Gid, info.Mode().Perm())
	}
	return nil
}
