package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

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

// sweep removes the files that no row names: a crash came between the file and
// its row, or between the end of the row and the removal of its file. Files of
// this run are left alone.
func (s *Store) sweep(d *diskFiles) {
	if err := s.sweepFolders(s.running, d); err != nil && s.running.Err() == nil {
		s.log.Error("sweep bodies", zap.Error(err))
	}
}

func (s *Store) sweepFolders(ctx context.Context, d *diskFiles) error {
	folders, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, folder := range folders {
		entries, err := os.ReadDir(filepath.Join(d.dir, folder.Name()))
		if err != nil {
			return err
		}
		orphans, err := s.orphans(ctx, d, entries)
		if err != nil {
			return err
		}
		if len(orphans) > 0 {
			s.log.Info("removing bodies that no message has", zap.Int("files", len(orphans)))
			s.janitor.remove(orphans)
		}
	}
	return nil
}

// orphans gives those of a folder's files that no row names and none ever will.
func (s *Store) orphans(ctx context.Context, d *diskFiles, entries []fs.DirEntry) (orphans []string, err error) {
	err = s.Read(ctx, func(sn *Snapshot) error {
		for _, e := range entries {
			if d.names.ours(e.Name()) {
				continue
			}
			var one int
			err := sn.QueryRow("SELECT 1 FROM body WHERE file = ?", e.Name()).Scan(&one)
			switch {
			case errors.Is(err, ErrNotFound):
				orphans = append(orphans, e.Name())
			case err != nil:
				return err
			}
		}
		return nil
	})
	return orphans, err
}
