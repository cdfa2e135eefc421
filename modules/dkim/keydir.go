package dkim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mox-like/mox-like/core/dkimkey"
)

// keySuffix ends the names of files with keys.
const keySuffix = ".pem"

// recordName is the name of the record of a key. Both are in A-labels.
func recordName(selector, domain string) string { return dkimkey.Name(selector, domain) }

// folder gives the folder with the keys of a domain.
func (s *Service) folder(domain string) string {
	ascii, _ := asciiName(domain) // it was checked when it was declared
	return filepath.Join(s.dir, ascii)
}

// file gives the file with a private key.
func (s *Service) file(r *row) string {
	return filepath.Join(s.folder(r.domain), r.selector+keySuffix)
}

// makeFolder makes the folder of a domain's keys, for this user alone, and makes its
// own entries durable. One that is there is made so.
func (s *Service) makeFolder(domain string) error {
	for _, dir := range []string{s.dir, s.folder(domain)} {
		switch err := os.Mkdir(dir, 0o700); {
		case err == nil:
			if err := dkimkey.SyncDir(filepath.Dir(dir)); err != nil {
				return fmt.Errorf("make folder of keys: %w", err)
			}
		case !errors.Is(err, fs.ErrExist):
			return fmt.Errorf("make folder of keys: %w", err)
		default:
			if err := mendMode(dir, fs.ModeDir, 0o700); err != nil {
				return fmt.Errorf("make folder of keys: %w", err)
			}
		}
	}
	return nil
}

// writeKey makes a key and writes it into the file of its row, of which it fills in
// what the key decides.
func (s *Service) writeKey(r *row, algorithm string) error {
	signer, err := dkimkey.Generate(algorithm)
	if err != nil {
		return err
	}
	text, err := dkimkey.Encode(signer)
	if err != nil {
		return err
	}
	private, err := newPrivateKey(signer)
	if err != nil {
		return err
	}
	if err := r.describe(private); err != nil {
		return err
	}
	if err := s.makeFolder(r.domain); err != nil {
		return err
	}
	return dkimkey.Write(s.file(r), text)
}

// checkOwn finds what is wrong with a file or folder that only the server writes: of
// which kind it is, whose, and who else can get at it. The error is an exposedError if
// it is only that others can get at it. A link is not followed.
func checkOwn(path string, kind, mode fs.FileMode) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != kind {
		what := "a regular file"
		if kind == fs.ModeDir {
			what = "a folder"
		}
		return &fs.PathError{Op: "open", Path: path, Err: errors.New("it is not " + what + " of the server's own")}
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return &exposedError{fmt.Sprintf("%s belongs to user %d, and not to %d, who the server is; run: chown %d %s", path, owner.Uid, os.Geteuid(), os.Geteuid(), path)}
	}
	if got := info.Mode().Perm(); got&^mode != 0 {
		return &exposedError{fmt.Sprintf("other users of this machine can get at %s (mode %04o); run: chmod %04o %s", path, got, mode, path)}
	}
	return nil
}

// exposedError is returned for a private key that others can get at.
type exposedError struct{ text string }

func (e *exposedError) Error() string { return e.text }

// mendMode is checkOwn, and takes away what others may do. Whose it is stays as it is.
func mendMode(path string, kind, mode fs.FileMode) error {
	err := checkOwn(path, kind, mode)
	if _, ok := errors.AsType[*exposedError](err); !ok {
		return err
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return checkOwn(path, kind, mode)
}

// loadOwn reads a key that the server manages. The error is an exposedError if others
// can get at it.
func loadOwn(path string) (*privateKey, error) {
	if err := checkOwn(path, 0, 0o600); err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	return loadPrivateKey(path)
}

// describe fills in what the key decides.
func (r *row) describe(private *privateKey) (err error) {
	r.algorithm, r.bits = private.algorithm(), private.bits
	r.record, err = private.record()
	return err
}

// removeKey deletes the file of a key; one that is gone already is no error.
func (s *Service) removeKey(r *row) error {
	err := os.Remove(s.file(r))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = dkimkey.SyncDir(s.folder(r.domain))
	}
	if err != nil {
		return fmt.Errorf("delete private key %s of %s: %w", r.selector, r.domain, err)
	}
	return nil
}

// keyFiles gives the selectors that have a file in the folder of a domain, and removes
// what an interrupted write has left.
func (s *Service) keyFiles(domain string) (map[string]bool, error) {
	entries, err := os.ReadDir(s.folder(domain))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read keys of %s: %w", domain, err)
	}
	found := make(map[string]bool)
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, dkimkey.Unfinished) {
			if err := os.Remove(filepath.Join(s.folder(domain), name)); err != nil {
				return nil, fmt.Errorf("remove unfinished key of %s: %w", domain, err)
			}
			continue
		}
		label, isKey := strings.CutSuffix(name, keySuffix)
		if e.Type() != 0 {
			continue // a link or the like is nothing of the server's
		}
		if selector, ok := asciiName(label); isKey && ok && selector == label {
			found[selector] = true
		}
	}
	return found, nil
}
