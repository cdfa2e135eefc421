// Package store is the database that all modules share: one SQLite database in
// the data directory, in write-ahead logging mode.
//
// There is one writer. Write queues a function; the writer takes all that wait
// into one transaction, with a savepoint each, and answers them after the one
// fsync of its commit. So the cost of making something durable is shared by all
// who wait for it, and a failure undoes only the one who caused it. Readers have
// connections of their own and never wait for the writer.
//
// What may be lost in a crash is written Behind: it rides along with other
// writes and costs no fsync of its own.
//
// Message bodies are stored once, however many refer to them: small ones in the
// database, large ones in files that are durable before the row that names them.
// A crash at any instant leaves at most files without a row, which the next
// start puts aside and a later one removes; a row never lacks its file.
//
// A disk that does not take what was written is no passing failure: after such
// an error nothing is written until a restart, see ErrUnsynced.
//
// Each module owns its tables and describes them by Migrations. Times are stored
// as microseconds since 1970.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"modernc.org/sqlite"
)

// Options configure Open and OpenMemory.
type Options struct {
	// Logger takes what no caller can be told; nil means none.
	Logger *zap.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// BodyLimit is the size in bytes up to which a body is kept in the
	// database; larger ones get a file of their own. 0 means 128 KiB.
	BodyLimit int64
}

// Store is an open database. It is safe for concurrent use.
type Store struct {
	dir        string
	log        *zap.Logger
	now        func() time.Time
	bodyLimit  int64
	queue      *queue
	conn       *conn // the writer's
	readers    *readers
	checkpoint *checkpointer // nil in memory
	memory     *memory       // nil on disk
	files      files
	janitor    *janitor
	lock       *os.File     // nil in memory
	lastBody   atomic.Int64 // the highest id of a body so far

	writing sync.WaitGroup  // the writer
	serving sync.WaitGroup  // the goroutines beside it
	running context.Context //nolint:containedctx // the store's own run context, which ends when it is closed
	stop    context.CancelFunc
	closing sync.Once
	closed  error // what Close gave

	failure        atomic.Pointer[error] // why nothing can be written any more
	groups, writes atomic.Uint64
	sizes          [numSizes]atomic.Uint64
}

// numSizes is how many sizes of groups are told apart.
const numSizes = 10

// Stats count what the store has done since it was opened.
type Stats struct {
	// Groups is the number of transactions, Writes that of the functions that
	// they held.
	Groups, Writes uint64
	// Sizes are the groups of at most 1, 2, 4, 8, … functions, each counted by the
	// first of these that holds.
	Sizes [numSizes]uint64
	// Dropped is the number of functions given to Behind that found no room.
	Dropped uint64
	// Waiting is the number of functions that wait for the writer now.
	Waiting int
}

// Stats gives the counters.
func (s *Store) Stats() Stats {
	stats := Stats{
		Groups: s.groups.Load(), Writes: s.writes.Load(),
		Dropped: s.queue.dropped.Load(), Waiting: s.queue.length(),
	}
	for i := range s.sizes {
		stats.Sizes[i] = s.sizes[i].Load()
	}
	return stats
}

// countGroup counts a group of n functions.
func (s *Store) countGroup(n int) {
	s.groups.Add(1)
	s.writes.Add(uint64(n))
	if n == 0 {
		return
	}
	s.sizes[min(bits.Len(uint(n-1)), numSizes-1)].Add(1)
}

// Open opens the database in a data directory, which it creates for this user
// alone and locks against other processes. It gives ErrLocked if one has it,
// and ErrNewer if a newer build has written it. ctx bounds the opening only.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	if err := makeDir(dir, syncDir); err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", dir, err)
	}
	s, err := openDisk(ctx, dir, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database in %s: %w", dir, err), unlockDir(lock))
	}
	s.lock = lock
	return s, nil
}

// Pragmas of connections to a database on disk. Pages have SQLite's usual 4 KiB,
// the fastest in the benchmark, since every page that a group touches is written
// twice. There is no mmap_size: reading is no faster with it, and an error of the
// disk would kill the process. The busy time is for the sqlite3 shell of an
// operator who looks at the data.
const (
	busyTimeout  = "busy_timeout = 5000"
	writerCache  = "cache_size = -16000"           // KiB
	readerCache  = "cache_size = -2000"            // KiB, for each
	longestLog   = "journal_size_limit = 67108864" // bytes, a longer one is cut
	noCheckpoint = "wal_autocheckpoint = 0"        // see checkpointer
	foreignKeys  = "foreign_keys = ON"
)

func openDisk(ctx context.Context, dir string, o Options) (*Store, error) {
	path := filepath.Join(dir, "mox-like.db")
	bodies := newDiskFiles(dir)
	if err := checkComplete(path, bodies); err != nil {
		return nil, err
	}
	// SQLite would make the file readable by all; the log takes its permissions.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, advise(err)
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	// It syncs as durably as fsync, without the file's times. Where there is no
	// such call, fsync stays.
	if _, err := sqlite.Fdatasync(true); err != nil && !errors.Is(err, sqlite.ErrFdatasyncUnavailable) {
		return nil, err
	}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath()
	writer, err := connect(ctx, dsn, busyTimeout, "journal_mode = WAL", "synchronous = FULL",
		writerCache, longestLog, noCheckpoint, foreignKeys)
	if err != nil {
		return nil, err
	}
	keeper, err := connect(ctx, dsn, busyTimeout, "synchronous = FULL", noCheckpoint)
	if err != nil {
		return nil, errors.Join(err, writer.close())
	}
	s := newStore(writer, bodies, o)
	s.dir = dir
	s.checkpoint = newCheckpointer(keeper, s.log, s.condemn)
	s.readers = newReaders(func(ctx context.Context) (*conn, error) {
		return connect(ctx, dsn, busyTimeout, "query_only = ON", readerCache)
	})
	err = s.start(ctx)
	if err != nil {
		return nil, err
	}
	s.serving.Go(func() { s.sweep(bodies) })
	return s, nil
}

// checkComplete makes sure that no new database takes the place of one that is
// lost: all its bodies would be without a row.
func checkComplete(path string, bodies *diskFiles) error {
	if info, err := os.Stat(path); err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	found, err := bodies.any()
	if err == nil && found {
		err = errors.New("the database is missing but bodies are there: restore mox-like.db, or move the folder bodies away")
	}
	return err
}

// OpenMemory opens a store of the same semantics whose database and bodies are
// in memory, for validate and for tests. It is gone when it is closed.
func OpenMemory(o Options) (*Store, error) {
	ctx := context.Background()
	writer, err := connect(ctx, ":memory:", foreignKeys)
	if err != nil {
		return nil, fmt.Errorf("open database in memory: %w", err)
	}
	s := newStore(writer, newMemoryFiles(), o)
	if s.memory, err = newMemory(writer); err != nil {
		return nil, errors.Join(fmt.Errorf("open database in memory: %w", err), writer.close())
	}
	s.readers = newReaders(func(ctx context.Context) (*conn, error) {
		return connect(ctx, ":memory:", "query_only = ON")
	})
	if err := s.start(ctx); err != nil {
		return nil, fmt.Errorf("open database in memory: %w", err)
	}
	return s, nil
}

func newStore(writer *conn, f files, o Options) *Store {
	s := &Store{log: o.Logger, now: o.Now, bodyLimit: o.BodyLimit, conn: writer, files: f}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.bodyLimit <= 0 {
		s.bodyLimit = defaultBodyLimit
	}
	s.queue = newQueue(s.log)
	s.janitor = newJanitor(f, s.log)
	s.running, s.stop = context.WithCancel(context.Background())
	return s
}

// start runs the goroutines and prepares the store's own tables. If that fails,
// the store is closed.
func (s *Store) start(ctx context.Context) error {
	w := &writer{store: s, queue: s.queue, conn: s.conn, durable: true}
	s.writing.Go(w.run)
	s.serving.Go(s.janitor.run)
	if s.checkpoint != nil {
		s.serving.Go(s.checkpoint.run)
	}
	if err := s.prepare(ctx); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

func (s *Store) prepare(ctx context.Context) error {
	err := s.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(migrationTable)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.Migrate(ctx, bodyMigrations); err != nil {
		return err
	}
	return s.Read(ctx, func(sn *Snapshot) error {
		var last int64
		err := sn.QueryRow("SELECT max(id) FROM body").Scan(&last)
		s.lastBody.Store(last)
		return err
	})
}

// condemn ends all writing once the disk has not taken something.
func (s *Store) condemn(err error) {
	if errors.Is(err, ErrUnsynced) && s.failure.CompareAndSwap(nil, &err) {
		s.log.Error("nothing is written any more", zap.Error(err))
	}
}

// failed is why nothing can be written any more, nil while it can.
func (s *Store) failed() error {
	if err := s.failure.Load(); err != nil {
		return fmt.Errorf("writing has ended: %w", *err)
	}
	return nil
}

// Dir is the data directory as an absolute path, "" for a store in memory.
func (s *Store) Dir() string { return s.dir }

// Close writes what is behind, waits for the reads that run, brings the log into
// the database file and unlocks the directory. Everything fails with ErrClosed
// afterwards. It may be called more than once.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closed = s.close() })
	return s.closed
}

func (s *Store) close() error {
	s.queue.close()
	s.writing.Wait()
	s.stop()
	errs := []error{s.readers.close()}
	s.janitor.close()
	if s.checkpoint != nil {
		close(s.checkpoint.wake)
	}
	s.serving.Wait()
	if s.checkpoint != nil {
		_, _, err := walCheckpoint(s.conn, "TRUNCATE")
		errs = append(errs, err, s.checkpoint.conn.close())
	}
	errs = append(errs, s.conn.close())
	if s.lock != nil {
		errs = append(errs, unlockDir(s.lock))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}
