package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// files keep the bodies that are too large for the database.
type files interface {
	// create writes a file of size bytes and makes it durable.
	create(head []byte, body io.Reader, size int64) (name string, err error)
	// open gives a file and its size.
	open(name string) (bodyFile, int64, error)
	// remove deletes a file; one that is gone already is no error.
	remove(name string) error
}

// bodyFile is an open body.
type bodyFile interface {
	io.ReaderAt
	io.Closer
}

// namer makes the names of files: a part that is random for each start of the
// process, and a number. The number's last digits are the folder, so that 256
// folders fill evenly. The first part tells the files of this run, which are
// rightly without a row for a moment, from those that a crash has left.
type namer struct {
	run  string
	last atomic.Uint64
}

func newNamer() *namer { return &namer{run: strings.ToLower(rand.Text()[:16])} }

func (n *namer) next() string { return fmt.Sprintf("%s-%06x", n.run, n.last.Add(1)) }

// ours tells whether a name was given in this run.
func (n *namer) ours(name string) bool { return strings.HasPrefix(name, n.run+"-") }

// orphanFolder is where files without a row are put aside.
const orphanFolder = "orphans"

// folderOf is the folder in which a file stands.
func folderOf(name string) string { return name[max(0, len(name)-2):] }

// diskFiles are in the folder bodies of the data directory. Those that no row
// names are put aside into its folder orphans for a while.
type diskFiles struct {
	names *namer
	dir   string

	mu      sync.Mutex
	durable map[string]bool // folders whose own entry is durable
}

func newDiskFiles(dir string) *diskFiles {
	return &diskFiles{names: newNamer(), dir: filepath.Join(dir, "bodies"), durable: make(map[string]bool)}
}

func (d *diskFiles) path(name string) string { return filepath.Join(d.dir, folderOf(name), name) }

// create writes the file, then its folder's entry of it. A crash in between
// leaves a file that no row names, which the next start puts aside.
func (d *diskFiles) create(head []byte, body io.Reader, size int64) (name string, err error) {
	name = d.names.next()
	dir := filepath.Join(d.dir, folderOf(name))
	if err := d.makeFolder(dir); err != nil {
		return "", err
	}
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	err = errors.Join(fill(f, head, body, size), f.Close())
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return name, nil
}

// fill writes what must be exactly size bytes.
func fill(f *os.File, head []byte, body io.Reader, size int64) error {
	if _, err := f.Write(head); err != nil {
		return err
	}
	rest := size - int64(len(head))
	n, err := io.Copy(f, io.LimitReader(body, rest))
	if err != nil {
		return err
	}
	if n < rest {
		return io.ErrUnexpectedEOF
	}
	if err := atEnd(body); err != nil {
		return err
	}
	return f.Sync()
}

// makeFolder creates the folder of a file and makes its entry durable, once.
func (d *diskFiles) makeFolder(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, folder := range []string{d.dir, dir} {
		if d.durable[folder] {
			continue
		}
		if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := syncDir(filepath.Dir(folder)); err != nil {
			return err
		}
		d.durable[folder] = true
	}
	return nil
}

func (d *diskFiles) open(name string) (bodyFile, int64, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func (d *diskFiles) remove(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// asidePath is where a file stands that was put aside.
func (d *diskFiles) asidePath(name string) string { return filepath.Join(d.dir, orphanFolder, name) }

// putAside moves a file to the orphans; its time is that of the move.
func (d *diskFiles) putAside(name string, now time.Time) error {
	if err := d.makeFolder(filepath.Join(d.dir, orphanFolder)); err != nil {
		return err
	}
	if err := os.Chtimes(d.path(name), now, now); err != nil {
		return err
	}
	return os.Rename(d.path(name), d.asidePath(name))
}

// bringBack moves a file to where its row looks for it.
func (d *diskFiles) bringBack(name string) error {
	if err := d.makeFolder(filepath.Dir(d.path(name))); err != nil {
		return err
	}
	return os.Rename(d.asidePath(name), d.path(name))
}

// any tells whether there is a file.
func (d *diskFiles) any() (bool, error) {
	found := false
	err := filepath.WalkDir(d.dir, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && e.Type().IsRegular() {
			found = true
			return fs.SkipAll
		}
		return err
	})
	return found, err
}

// memoryFiles are those of a store in memory.
type memoryFiles struct {
	names *namer

	mu      sync.Mutex
	content map[string][]byte
}

func newMemoryFiles() *memoryFiles {
	return &memoryFiles{names: newNamer(), content: make(map[string][]byte)}
}

func (m *memoryFiles) create(head []byte, body io.Reader, size int64) (name string, err error) {
	content := make([]byte, size)
	n := copy(content, head)
	if _, err := io.ReadFull(body, content[n:]); err != nil {
		return "", err
	}
	if err := atEnd(body); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name = m.names.next()
	m.content[name] = content
	return name, nil
}

func (m *memoryFiles) open(name string) (bodyFile, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.content[name]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return memoryFile{bytes.NewReader(content)}, int64(len(content)), nil
}

func (m *memoryFiles) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.content, name)
	return nil
}

// memoryFile is an open body in memory.
type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }
