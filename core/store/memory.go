package store

import (
	"errors"
	"fmt"
	"sync"
)

// memory holds a database without files. SQLite has no write-ahead log there, and
// readers and writers would wait for each other. So the writer leaves an image of
// each commit, and each reader has a database of its own, into which it loads the
// last image. That suits the small databases of validate and of tests. A nil
// memory, that of a store on disk, does nothing.
type memory struct {
	writer serializer

	mu      sync.Mutex
	image   []byte // is not changed, but replaced
	version uint64 // counts images
}

// serializer is what the driver's connections offer beside database/sql.
type serializer interface {
	Serialize() ([]byte, error)
	Deserialize([]byte) error
}

func newMemory(writer *conn) (*memory, error) {
	s, ok := writer.raw.(serializer)
	if !ok {
		return nil, fmt.Errorf("driver connection %T has no Serialize", writer.raw)
	}
	return &memory{writer: s}, nil
}

// publish leaves an image of what the writer has committed.
func (m *memory) publish() error {
	if m == nil {
		return nil
	}
	image, err := m.writer.Serialize()
	if err != nil {
		return fmt.Errorf("copy database in memory: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.image = image
	m.version++
	return nil
}

// refresh loads the last image into the database of a reader.
func (m *memory) refresh(c *conn) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	image, version := m.image, m.version
	m.mu.Unlock()
	if c.version == version {
		return nil
	}
	s, ok := c.raw.(serializer)
	if !ok {
		return errors.New("driver connection has no Deserialize")
	}
	if err := s.Deserialize(image); err != nil {
		return fmt.Errorf("load database in memory: %w", err)
	}
	c.version = version
	return nil
}
