package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mox-like/mox-like/core"
)

// becomeUser gives the function that makes this process a system user, for
// core.Options.DropPrivileges. The data directory is made for that user first.
func becomeUser(dataDir string) func(*core.SystemUser) error {
	return func(who *core.SystemUser) error {
		if os.Geteuid() == who.UID && os.Getuid() == who.UID {
			return nil
		}
		if os.Geteuid() != 0 {
			return errors.New("only root can become another user: start as root, or remove user from the server block")
		}
		if err := makeDir(dataDir, who); err != nil {
			return err
		}
		return become(who)
	}
}

// makeDir makes the data directory of a user if it is not there, and gives an
// empty one that root has made to the user. One with content is not touched:
// whose it is shall be nobody's guess.
func makeDir(dir string, u *core.SystemUser) error {
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
	if !ok || int(owner.Uid) == u.UID {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read data directory: %w", err)
	}
	if owner.Uid != 0 || len(entries) > 0 {
		return fmt.Errorf("the data directory %s belongs to user %d and not to %s: give it over by 'chown -R %s %s'", dir, owner.Uid, u.Name, u.Name, dir)
	}
	if err := os.Lchown(dir, u.UID, u.GID); err != nil {
		return fmt.Errorf("give data directory to %s: %w", u.Name, err)
	}
	return nil
}

// become drops root for good.
func become(u *core.SystemUser) error {
	if err := syscall.Setgroups(u.Groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setgid(u.GID); err != nil {
		return fmt.Errorf("set group %d: %w", u.GID, err)
	}
	if err := syscall.Setuid(u.UID); err != nil {
		return fmt.Errorf("set user %d: %w", u.UID, err)
	}
	if u.UID == 0 {
		return nil
	}
	if syscall.Setuid(0) == nil || os.Getuid() != u.UID || os.Geteuid() != u.UID {
		return errors.New("root could be regained: refusing to go on")
	}
	return nil
}
