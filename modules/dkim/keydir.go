package dkim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
// own entries durable.
func (s *Service) makeFolder(domain string) error {
	for _, dir := range []string{s.dir, s.folder(domain)} {
		switch err := os.Mkdir(dir, 0o700); {
		case err == nil:
			if err := dkimkey.SyncDir(filepath.Dir(dir)); err != nil {
				return fmt.Errorf("make folder of keys: %w", err)
			}
		case !errors.Is(err, fs.ErrExist):
			return fmt.Errorf("make folder of keys: %w", err)
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
		if selector, ok := asciiName(label); isKey && ok && selector == label {
			found[selector] = true
		}
	}
	return found, nil
}
