package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// becomeUser gives the function that makes this process a system user, for
// core.Options.DropPrivileges. The data directory is made for that user first.
func becomeUser(dataDir string) func(name string) error {
	return func(name string) error {
		who, err := lookUpUser(name)
		if err != nil {
			return err
		}
		if os.Geteuid() == who.uid && os.Getuid() == who.uid {
			return nil
		}
		if os.Geteuid() != 0 {
			return errors.New("only root can become another user: start as root, or remove user from the server block")
		}
		if err := who.makeDir(dataDir); err != nil {
			return err
		}
		return who.become()
	}
}

// systemUser is a user of this machine.
type systemUser struct {
	name     string
	uid, gid int
	groups   []int
}

func lookUpUser(name string) (*systemUser, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("look up user: %w; make one, as by 'useradd --system %s', or correct user in the server block", err, name)
	}
	ids, err := found.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("look up groups of user: %w", err)
	}
	numbers := make([]int, 0, len(ids)+2)
	for _, text := range append([]string{found.Uid, found.Gid}, ids...) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("look up user %s: %w", name, err)
		}
		numbers = append(numbers, n)
	}
	return &systemUser{name: name, uid: numbers[0], gid: numbers[1], groups: numbers[2:]}, nil
}

// makeDir makes the data directory of a user if it is not there, and gives an
// empty one that root has made to the user. One with content is not touched:
// whose it is shall be nobody's guess.
func (u *systemUser) makeDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // the user must get through to a directory of their own
		return fmt.Errorf("make data directory: %w", err)
	}
	err := os.Mkdir(dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == u.uid {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read data directory: %w", err)
	}
	if owner.Uid != 0 || len(entries) > 0 {
		return fmt.Errorf("the data directory %s belongs to user %d and not to %s: give it over by 'chown -R %s %s'", dir, owner.Uid, u.name, u.name, dir)
	}
	if err := os.Lchown(dir, u.uid, u.gid); err != nil {
		return fmt.Errorf("give data directory to %s: %w", u.name, err)
	}
	return nil
}

// become drops root for good.
func (u *systemUser) become() error {
	if err := syscall.Setgroups(u.groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setgid(u.gid); err != nil {
		return fmt.Errorf("set group %d: %w", u.gid, err)
	}
	if err := syscall.Setuid(u.uid); err != nil {
		return fmt.Errorf("set user %d: %w", u.uid, err)
	}
	if u.uid == 0 {
		return nil
	}
	if syscall.Setuid(0) == nil || os.Getuid() != u.uid || os.Geteuid() != u.uid {
		return errors.New("root could be regained: refusing to go on")
	}
	return nil
}
