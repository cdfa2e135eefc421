package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// defaultBodyLimit is where a BLOB and a file cost the same. Up to it a BLOB is
// quicker: at 100 KB and 10 clients a whole server takes in a third more messages
// with it, for two thirds of the processor time (bench/ingest). At 256 KiB files
// are quicker (BenchmarkBody).
const defaultBodyLimit = 128 << 10

// bodyMigrations make the table of message bodies. The content comes last, so
// that the columns before it are read without it.
var bodyMigrations = Migrations{Module: "store", Steps: []string{
	`
	CREATE TABLE body (
		id      INTEGER PRIMARY KEY,
		size    INTEGER NOT NULL,
		refs    INTEGER NOT NULL,
		file    TEXT,
		content BLOB
	);
	CREATE UNIQUE INDEX body_file ON body (file) WHERE file IS NOT NULL`,
}}

// Body is the content of a message that is about to be stored. It belongs to one
// goroutine at a time and is inserted once.
type Body struct {
	store   *Store
	size    int64
	content []byte // of a small body
	file    string // the name of a large one
	kept    bool   // a row names the file, or may name it after a crash
}

// PrepareBody takes in a body: head, which may be empty, followed by what body
// gives, which may be nil; size bytes in all. A small body stays in memory, a
// large one is written to a file and is durable when PrepareBody returns, so
// that the row that will name it never names nothing. The caller must call
// Discard in the end.
func (s *Store) PrepareBody(head []byte, body io.Reader, size int64) (*Body, error) {
	if body == nil {
		body = bytes.NewReader(nil)
	}
	if int64(len(head)) > size {
		return nil, fmt.Errorf("prepare body: the head alone has %d bytes of %d", len(head), size)
	}
	b := &Body{store: s, size: size}
	if size > s.bodyLimit {
		name, err := s.files.create(head, body, size)
		if err != nil {
			s.condemn(err)
			return nil, fmt.Errorf("prepare body: %w", classify(err))
		}
		b.file = name
		return b, nil
	}
	b.content = make([]byte, size)
	n := copy(b.content, head)
	if _, err := io.ReadFull(body, b.content[n:]); err != nil {
		return nil, fmt.Errorf("prepare body: %w", err)
	}
	if err := atEnd(body); err != nil {
		return nil, fmt.Errorf("prepare body: %w", err)
	}
	return b, nil
}

// atEnd makes sure that a body is not longer than was said.
func atEnd(body io.Reader) error {
	var next [1]byte
	switch _, err := io.ReadFull(body, next[:]); {
	case err == nil:
		return errors.New("there are more bytes than the size says")
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}

// Size is the length in bytes.
func (b *Body) Size() int64 { return b.size }

// Discard frees a body that was not inserted, or whose transaction failed. After
// a commit it does nothing. It must not be called while a Write with the body
// runs.
func (b *Body) Discard() {
	b.content = nil
	if b.file != "" && !b.kept {
		b.store.janitor.remove([]string{b.file})
	}
	b.file = ""
}

// InsertBody stores a body that refs owners refer to.
func (tx *Tx) InsertBody(b *Body, refs int) (id int64, err error) {
	if b.file == "" && b.content == nil {
		return 0, errors.New("insert body: it is discarded or inserted already")
	}
	id = tx.store.lastBody.Add(1)
	if b.file != "" {
		tx.bodies = append(tx.bodies, b)
		_, err = tx.Exec("INSERT INTO body (id, size, refs, file) VALUES (?, ?, ?, ?)", id, b.size, refs, b.file)
	} else {
		_, err = tx.Exec("INSERT INTO body (id, size, refs, content) VALUES (?, ?, ?, ?)", id, b.size, refs, b.content)
	}
	if err != nil {
		return 0, fmt.Errorf("insert body: %w", err)
	}
	return id, nil
}

// AddBodyRefs adds delta to the number of owners that refer to a body. Without
// any the body goes, its file once the commit is durable.
func (tx *Tx) AddBodyRefs(id int64, delta int) error {
	var refs int
	var file sql.Null[string]
	err := tx.QueryRow("SELECT refs, file FROM body WHERE id = ?", id).Scan(&refs, &file)
	if err != nil {
		return fmt.Errorf("find body %d: %w", id, err)
	}
	if refs += delta; refs > 0 {
		_, err = tx.Exec("UPDATE body SET refs = ? WHERE id = ?", refs, id)
	} else {
		_, err = tx.Exec("DELETE FROM body WHERE id = ?", id)
	}
	if err != nil {
		return fmt.Errorf("count references of body %d: %w", id, err)
	}
	if refs <= 0 && file.Valid {
		tx.remove = append(tx.remove, file.V)
	}
	return nil
}

// settle tells the bodies of the transaction how it ended. If the outcome is in
// doubt, the file must stay until the next start, when the row is there or not.
func (tx *Tx) settle(committed, doubt bool) {
	for _, b := range tx.bodies {
		b.kept = committed || doubt
	}
}

// BodyReader reads a stored body. It is safe for concurrent use until it is
// closed, and goes on reading when the body is removed meanwhile.
type BodyReader struct {
	content io.ReaderAt
	closer  io.Closer // nil for a body in memory
	size    int64
}

// OpenBody opens a body for reading; the caller closes it. It gives ErrNotFound
// if there is none of that id.
func (s *Store) OpenBody(ctx context.Context, id int64) (*BodyReader, error) {
	var r *BodyReader
	err := s.Read(ctx, func(sn *Snapshot) (err error) {
		r, err = sn.OpenBody(id)
		return err
	})
	return r, err
}

// OpenBody opens a body that the snapshot has; the caller closes it, which may be
// after the end of the snapshot. A file that was removed after the snapshot was
// made is ErrNotFound.
func (sn *Snapshot) OpenBody(id int64) (*BodyReader, error) {
	var size int64
	var file string
	var content []byte
	err := sn.QueryRow("SELECT size, file, content FROM body WHERE id = ?", id).Scan(&size, &file, &content)
	if err != nil {
		return nil, fmt.Errorf("open body %d: %w", id, err)
	}
	if file == "" {
		return &BodyReader{content: bytes.NewReader(content), size: size}, nil
	}
	f, have, err := sn.files.open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open body %d: %w: %w", id, ErrNotFound, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open body %d: %w", id, err)
	}
	if have != size {
		return nil, errors.Join(fmt.Errorf("open body %d: file %s has %d bytes instead of %d", id, file, have, size), f.Close())
	}
	return &BodyReader{content: f, closer: f, size: size}, nil
}

// ReadAt reads as io.ReaderAt does.
func (r *BodyReader) ReadAt(p []byte, off int64) (int, error) { return r.content.ReadAt(p, off) }

// Size is the length in bytes.
func (r *BodyReader) Size() int64 { return r.size }

// Close frees the reader.
func (r *BodyReader) Close() error {
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}
