package attachments

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// span is a piece of a file: an entry of an archive with its local header, or the
// list.
type span struct{ start, end int64 }

// openEntry finds the data of an entry, and where all of it is. What the list says
// of it and what itself does must be the same, since programs differ in which they
// go by.
func openEntry(c *content, e entry) (*content, span, error) {
	whole := span{e.offset, e.offset}
	var head [lenFile]byte
	if n, err := c.ReadAt(head[:], e.offset); n < len(head) {
		return nil, whole, shortRead(err)
	}
	if binary.LittleEndian.Uint32(head[:]) != sigFile {
		return nil, whole, fmt.Errorf("%w: %s is not where the list says", errBroken, quoted(e.name))
	}
	rest := make([]byte, int(binary.LittleEndian.Uint16(head[26:]))+int(binary.LittleEndian.Uint16(head[28:])))
	if n, err := c.ReadAt(rest, e.offset+lenFile); n < len(rest) {
		return nil, whole, shortRead(err)
	}
	start := e.offset + lenFile + int64(len(rest))
	whole.end = start + e.packed
	local := entry{
		flags: binary.LittleEndian.Uint16(head[6:]), method: binary.LittleEndian.Uint16(head[8:]),
		packed: int64(binary.LittleEndian.Uint32(head[18:])), size: int64(binary.LittleEndian.Uint32(head[22:])),
	}
	nameEnd := binary.LittleEndian.Uint16(head[26:])
	local.name = string(rest[:nameEnd])
	local.readExtra(rest[nameEnd:])
	if err := e.agrees(local); err != nil {
		return nil, whole, err
	}
	if e.flags&flagMasked == 0 && local.flags&flagLater != 0 {
		length, err := descriptorLength(c, whole.end, e)
		if err != nil {
			return nil, whole, err
		}
		whole.end += length
	}
	return c.sub(start, e.packed), whole, nil
}

// agrees holds what the list says of an entry against its local header.
func (e entry) agrees(local entry) error {
	const flags = flagEncrypted | flagStrong | flagMasked
	// macOS gives one of the sizes and leaves the other for later.
	isSize := func(listed, own int64) bool { return listed == own || own == 0 && local.flags&flagLater != 0 }
	what := ""
	switch {
	case e.flags&flags != local.flags&flags:
		what = "is encrypted by one of them only"
	case e.flags&flagMasked != 0: // the local header says nothing more
	case e.name != local.name:
		what = "is named " + quoted(local.name) + " by itself"
	case e.method != local.method:
		what = fmt.Sprintf("is packed by method %d or %d", e.method, local.method)
	case !isSize(e.packed, local.packed) || !isSize(e.size, local.size):
		what = fmt.Sprintf("is %d bytes packed or %d", e.packed, local.packed)
	}
	if what == "" {
		return nil
	}
	return fmt.Errorf("%w: %s in the list is not what it is itself: it %s", errBroken, quoted(e.name), what)
}

// descriptorLength tells how long the sizes behind the data of an entry are
// (APPNOTE.TXT section 4.3.9); programs that read from the begin go by them. Some
// archives have none.
func descriptorLength(c *content, offset int64, e entry) (int64, error) {
	var d [24]byte
	n, err := c.ReadAt(d[:], offset)
	if errors.Is(err, errRead) {
		return 0, err
	}
	if n >= 4 {
		switch binary.LittleEndian.Uint32(d[:]) {
		case sigFile, sigEntry:
			return 0, nil
		}
	}
	for _, signature := range []int{4, 0} {
		if signature == 4 && string(d[:4]) != "PK\x07\x08" {
			continue
		}
		sizes := d[signature+4:]
		length := int64(signature + 4)
		le := binary.LittleEndian
		switch {
		case int64(le.Uint32(sizes)) == e.packed && int64(le.Uint32(sizes[4:])) == e.size:
			return length + 8, nil
		case le.Uint64(sizes) == uint64(e.packed) && le.Uint64(sizes[8:]) == uint64(e.size):
			return length + 16, nil
		}
	}
	return 0, fmt.Errorf("%w: %s does not end where the list says", errBroken, quoted(e.name))
}

// checkGaps looks at what is between the pieces of an archive: there may be
// something, but not another archive, which some programs open instead. No two
// pieces may share bytes.
func checkGaps(c *content, spans []span) error {
	size, err := c.size()
	if err != nil {
		return err
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end)) })
	spans = append(spans, span{size, size})
	var at int64
	for _, s := range spans {
		if s.start < at {
			return fmt.Errorf("%w: its entries overlap", errBroken)
		}
		if err := searchGap(c, span{at, s.start}); err != nil {
			return err
		}
		at = s.end
	}
	return nil
}

// searchGap looks for what an archive is made of where there should be none.
func searchGap(c *content, s span) error {
	const step, overlap = 32 << 10, 3
	if s.end-s.start < lenFile {
		return nil
	}
	buffer := make([]byte, min(step+overlap, s.end-s.start))
	for at := s.start; at < s.end; at += step {
		piece := buffer[:min(int64(len(buffer)), s.end-at)]
		n, err := c.ReadAt(piece, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for _, signature := range []string{"PK\x03\x04", "PK\x01\x02"} {
			if i := bytes.Index(piece[:n], []byte(signature)); i >= 0 {
				return fmt.Errorf("%w: there is a piece of another archive at byte %d", errBroken, at+int64(i))
			}
		}
	}
	return nil
}
