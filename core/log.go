package core

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger is the log of a server.
type logger struct {
	*zap.Logger
	level zap.AtomicLevel
	file  *logFile // nil for stderr and stdout
}

// newLogger makes the log that the log block asks for.
func newLogger(s *settings) (*logger, error) {
	level, err := zap.ParseAtomicLevel(s.Log.Level)
	if err != nil {
		return nil, err
	}
	l := &logger{level: level}
	stderr := zapcore.Lock(os.Stderr)
	out := stderr
	switch path := s.logPath(); {
	case path != "":
		if l.file, err = openLogFile(path, s.user); err != nil {
			return nil, err
		}
		out = l.file
	case s.Log.Output == "stdout":
		out = zapcore.Lock(os.Stdout)
	}
	l.Logger = zap.New(zapcore.NewCore(newEncoder(s.Log.Format), out, level), zap.ErrorOutput(stderr))
	return l, nil
}

// reopen opens the file of the log again, if there is one.
func (l *logger) reopen() {
	if l.file == nil {
		return
	}
	if err := l.file.reopen(); err != nil {
		l.Error("open log again: the old file stays", zap.Error(err))
	}
}

// close closes the file of the log, if there is one.
func (l *logger) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.close()
}

func newEncoder(format string) zapcore.Encoder {
	c := zap.NewProductionEncoderConfig()
	c.TimeKey = "time"
	if format == "json" {
		c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
		return zapcore.NewJSONEncoder(c)
	}
	c.EncodeTime = zapcore.TimeEncoderOfLayout(time.DateTime)
	c.EncodeLevel = zapcore.CapitalLevelEncoder
	return zapcore.NewConsoleEncoder(c)
}

// logPath is the path of the file of the log, "" for stderr and stdout.
func (s *settings) logPath() string {
	path := s.Log.Output
	if path == "stderr" || path == "stdout" {
		return ""
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.baseDir, path)
	}
	return path
}

// logFile is a file of the log. Once another program has renamed it, reopen begins
// a new one.
type logFile struct {
	path string

	mu sync.Mutex
	f  *os.File // guarded by mu
}

func openLogFile(path string, owner *SystemUser) (*logFile, error) {
	f, err := appendTo(path, owner)
	return &logFile{path: path, f: f}, err
}

// appendTo opens a file, and makes it if it is not there. One that root has made
// it gives to the owner.
func appendTo(path string, owner *SystemUser) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_APPEND | syscall.O_NOFOLLOW
	f, err := os.OpenFile(path, flags, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	f, err = os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o640) //nolint:gosec // a group may read the log
	if err != nil {
		return nil, err
	}
	if owner != nil && os.Geteuid() == 0 {
		if err := f.Chown(owner.UID, owner.GID); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// reopen opens the file that now stands at the path; the old one stays if that
// fails.
func (l *logFile) reopen() error {
	f, err := appendTo(l.path, nil)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.f
	l.f = f
	l.mu.Unlock()
	return old.Close()
}

// Write writes a line.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(line)
}

// Sync makes what was written durable.
func (l *logFile) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Sync()
}

// close ends writing.
func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
