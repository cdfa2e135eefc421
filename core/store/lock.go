package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// makeDir creates the data directory for this user alone and makes its entry
// durable. One that exists keeps its permissions.
func makeDir(dir string, syncDir func(string) error) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is a file; name a directory", dir)
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: one above it is a file; choose another data_dir", err)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return advise(makeDirs(dir, syncDir))
}

// makeDirs creates a directory and those above it that are missing, and makes the
// entry of each durable.
func makeDirs(dir string, syncDir func(string) error) error {
	err := os.Mkdir(dir, 0o700)
	if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
		if err := makeDirs(above, syncDir); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// advise says what to do about a directory that cannot be written.
func advise(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: user %d may not write there; give the directory to that user, or choose another data_dir",
			err, os.Getuid())
	}
	return err
}

// syncDir makes the entries of a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if err != nil && !isFull(err) {
		return unsynced(err)
	}
	return err
}

// lockDir takes the lock of a data directory, which holds until the file is
// closed or the process ends, and leaves this process's id in it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, advise(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w by process %s; stop it first, or choose another data_dir", ErrLocked, holder(f))
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	if err := writePID(f); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", f.Name(), classify(err)), unlockDir(f))
	}
	return f, nil
}

// unlockDir gives the lock back. A child that this process is just starting has a
// copy of the file for a moment, so that closing it does not suffice.
func unlockDir(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// pidWidth is the width of the process id in the lock file.
const pidWidth = 10

// holder reads the id of the process that has the lock.
func holder(f *os.File) string {
	var text [pidWidth]byte
	n, _ := f.ReadAt(text[:], 0)
	if pid := strings.TrimSpace(string(text[:n])); pid != "" {
		return pid
	}
	return "unknown"
}

// writePID writes in place, since on a full disk there is no other.
func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%-*d\n", pidWidth, os.Getpid()), 0)
	return err
}
