package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
)

// janitor removes files, so that the writer does not wait for the file system.
type janitor struct {
	files files
	log   *zap.Logger
	wake  chan struct{} // of capacity 1, closed at the end

	mu     sync.Mutex
	names  []string
	closed bool
}

func newJanitor(f files, log *zap.Logger) *janitor {
	return &janitor{files: f, log: log, wake: make(chan struct{}, 1)}
}

// remove removes files soon. What a crash or the end keeps from being removed is
// swept at the next start.
func (j *janitor) remove(names []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	j.names = append(j.names, names...)
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// run is the goroutine. It ends when the janitor is closed and all is removed.
func (j *janitor) run() {
	for range j.wake {
		j.mu.Lock()
		names := j.names
		j.names = nil
		j.mu.Unlock()
		for _, name := range names {
			if err := j.files.remove(name); err != nil {
				j.log.Error("remove body", zap.String("file", name), zap.Error(err))
			}
		}
	}
}

func (j *janitor) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	close(j.wake)
}

// Orphans stay for keepOrphans, and are looked at every sweepEvery.
const (
	keepOrphans = 7 * 24 * time.Hour
	sweepEvery  = 24 * time.Hour
)

// sweep puts those files aside that no row names, and removes them a week later.
// Most are left by a crash, which came between the file and its row, or between
// the end of the row and the removal of its file. But it may be that somebody has
// restored an older database: when the right one is back, so are its files.
func (s *Store) sweep(d *diskFiles) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	err := s.sweepFolders(d)
	for {
		if err := errors.Join(err, s.sweepOrphans(d)); err != nil && s.running.Err() == nil {
			s.log.Error("sweep bodies", zap.Error(err))
		}
		s.log.Debug("swept bodies")
		select {
		case <-tick.C:
			err = nil
		case <-s.running.Done():
			return
		}
	}
}

// sweepFolders puts files aside. Those of this run are left alone.
func (s *Store) sweepFolders(d *diskFiles) error {
	folders, err := readDir(d.dir)
	if err != nil {
		return err
	}
	n := 0
	for _, folder := range folders {
		if folder.Name() == orphanFolder {
			continue
		}
		entries, err := readDir(filepath.Join(d.dir, folder.Name()))
		if err != nil {
			return err
		}
		err = s.eachFile(entries, func(e fs.DirEntry, named bool) error {
			if named || d.names.ours(e.Name()) {
				return nil
			}
			err := d.putAside(e.Name(), s.now())
			if err == nil {
				n++
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if n > 0 {
		s.log.Warn("put bodies aside that no message has", zap.Int("files", n), zap.String("folder", filepath.Join(d.dir, orphanFolder)))
	}
	return nil
}

// sweepOrphans removes what has been aside for long, and brings back what has a
// row again.
func (s *Store) sweepOrphans(d *diskFiles) error {
	entries, err := readDir(filepath.Join(d.dir, orphanFolder))
	if err != nil {
		return err
	}
	return s.eachFile(entries, func(e fs.DirEntry, named bool) error {
		if named {
			return d.bringBack(e.Name())
		}
		info, err := e.Info()
		if err != nil || s.now().Sub(info.ModTime()) < keepOrphans {
			return err
		}
		return os.Remove(d.asidePath(e.Name()))
	})
}

// eachFile calls f for each file with whether a row names it. A file that is gone
// meanwhile is no error.
func (s *Store) eachFile(entries []fs.DirEntry, f func(e fs.DirEntry, named bool) error) error {
	named := make(map[string]bool)
	err := s.Read(s.running, func(sn *Snapshot) error {
		for _, e := range entries {
			var one int
			err := sn.QueryRow("SELECT 1 FROM body WHERE file = ?", e.Name()).Scan(&one)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			named[e.Name()] = err == nil
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := f(e, named[e.Name()]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// readDir lists a folder; one that is not there is empty.
func readDir(name string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}
