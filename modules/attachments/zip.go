package attachments

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"unicode/utf8"
)

// Records of a zip archive (PKWARE's APPNOTE.TXT section 4.3), with their lengths
// without what varies.
const (
	sigEntry     = 0x02014b50 // of the directory
	sigFile      = 0x04034b50
	sigEnd       = 0x06054b50
	sigEnd64     = 0x06064b50
	sigLocator64 = 0x07064b50

	lenEntry     = 46
	lenFile      = 30
	lenEnd       = 22
	lenEnd64     = 56
	lenLocator64 = 20

	extraZip64 = 0x0001
	extraPath  = 0x7075 // Info-ZIP's name in UTF-8

	flagEncrypted = 1 << 0
	flagLater     = 1 << 3 // the sizes follow the data
	flagStrong    = 1 << 6 // a way to encrypt
	flagUTF8      = 1 << 11
	flagMasked    = 1 << 13 // the directory is encrypted

	methodStore   = 0
	methodDeflate = 8
)

// errBroken is returned when an archive cannot be read.
var errBroken = errors.New("broken")

// directory is where the list of an archive's entries is.
type directory struct {
	start   int64 // in the file
	shift   int64 // what stands before the archive
	count   uint64
	records []span // the records at the end
}

// entry is one of an archive.
type entry struct {
	name   string
	names  []string // the name, and another one in an extra field
	flags  uint16
	method uint16
	packed int64
	size   int64 // unpacked
	offset int64 // of its local header, in the file
	length int64 // of what the directory has of it
}

// archive looks into a zip archive. isSure tells that it is one; a file that has
// only the name of one may be anything.
func (x *examination) archive(c *content, names []string, isSure bool, depth int) error {
	name := nameOf(names)
	if depth > x.ArchiveDepth && isSure {
		return x.tooComplex(fmt.Sprintf("%s: archives are nested deeper than archive_depth, %d", quoted(name), x.ArchiveDepth))
	}
	d, err := directory{}, errBroken
	if depth <= x.ArchiveDepth {
		d, err = findDirectory(c)
	}
	if errors.Is(err, errBroken) && !isSure {
		var size int64
		if size, err = c.size(); err == nil {
			err = searchGap(c, span{0, size})
		}
	}
	if err == nil && d.records != nil {
		x.archives++
		err = x.list(c, d, name, depth)
	}
	if errors.Is(err, errBroken) {
		return x.broken(name, err)
	}
	return err
}

func (x *examination) broken(archive string, err error) error {
	return x.tooComplex(fmt.Sprintf("%s: the archive is %v", quoted(archive), err))
}

// list examines all entries. One that is broken does not end it.
func (x *examination) list(c *content, d directory, archive string, depth int) error {
	in := bufio.NewReaderSize(io.NewSectionReader(c, d.start, math.MaxInt64-d.start), 4<<10)
	var count uint64
	var spans []span
	start := d.start
	for {
		e, ok, err := readEntry(in, d)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		count++
		start += e.length
		if err := x.countEntry(); err != nil {
			return err
		}
		whole, err := x.entry(c, e, archive, depth)
		spans = append(spans, whole)
		if errors.Is(err, errBroken) {
			err = x.broken(archive, err)
		}
		if err != nil {
			return err
		}
	}
	// The count has 16 bits, and programs write what is left of it.
	if count&0xffff != d.count&0xffff {
		return fmt.Errorf("%w: it has %d entries and says %d", errBroken, count, d.count)
	}
	return checkGaps(c, append(append(spans, span{d.start, start}), d.records...))
}

// entry examines an entry of an archive, and tells where it is.
func (x *examination) entry(c *content, e entry, archive string, depth int) (span, error) {
	if err := x.named(e.names); err != nil {
		return span{}, err
	}
	if isMacroPart(clean(e.name)) {
		if err := x.typed([]string{archive}, typeMacros); err != nil {
			return span{}, err
		}
	}
	packed, whole, err := openEntry(c, e)
	if err != nil {
		return whole, err
	}
	switch {
	case e.flags&(flagEncrypted|flagMasked) != 0:
		return whole, x.encrypted(archive)
	case e.method == methodStore && e.packed != e.size:
		return whole, fmt.Errorf("%w: %s has two sizes", errBroken, quoted(e.name))
	case e.packed == 0:
		return whole, nil
	case e.method == methodStore:
		return whole, x.file(packed, e.names, depth+1)
	case e.method == methodDeflate:
		return whole, x.deflated(packed, e, depth)
	case len(x.Types) > 0 || isZipName(e.names):
		return whole, x.tooComplex(fmt.Sprintf("%s: %s is packed by method %d, which is not known", quoted(archive), quoted(e.name), e.method))
	}
	return whole, nil
}

// deflated examines a compressed entry: its begin, or all of it if it is an
// archive itself.
func (x *examination) deflated(packed *content, e entry, depth int) error {
	inflater := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(inflater)
	in := bufio.NewReaderSize(packed.reader(), 1<<10)
	if err := inflater.(flate.Resetter).Reset(in, nil); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	head := x.head[:]
	n, err := io.ReadFull(inflater, head)
	x.addUnpacked(int64(n))
	switch {
	case errors.Is(err, io.EOF) && n == 0:
		return nil
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return inflateError(e, err)
	}
	found := sniff(head[:n])
	if found != typeZip && found != typeOLE && !isZipName(e.names) && !x.mayBeISO(found) {
		if err := x.typed(e.names, found); err != nil {
			return err
		}
		return x.checkUnpacked()
	}
	c, free, err := x.unpack(io.MultiReader(bytes.NewReader(head[:n]), inflater))
	if err != nil {
		return inflateError(e, err)
	}
	defer free()
	if err := x.checkUnpacked(); err != nil {
		return err
	}
	return x.file(c, e.names, depth+1)
}

// mayBeISO tells that more of a file must be known, since images of CDs are
// denied.
func (x *examination) mayBeISO(found string) bool {
	if found != unknownType {
		return false
	}
	_, ok := x.isDenied(typeISO)
	return ok
}

// checkUnpacked holds what was unpacked against the bound, beyond which nothing
// more is looked at.
func (x *examination) checkUnpacked() error {
	if x.unpacked <= int64(x.MaxUnpacked) {
		return nil
	}
	if err := x.tooComplex(fmt.Sprintf("its archives have more in them than max_unpacked, %s", x.MaxUnpacked)); err != nil {
		return err
	}
	return errEnough
}

var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

// inflateError tells a message that cannot be read from data that make no sense.
func inflateError(e entry, err error) error {
	if errors.Is(err, errRead) {
		return err
	}
	return fmt.Errorf("%w: %s cannot be unpacked", errBroken, quoted(e.name))
}

func shortRead(err error) error {
	if errors.Is(err, errRead) {
		return err
	}
	return fmt.Errorf("%w: it ends too early", errBroken)
}

// maxTail is as far from the end as the end record can begin.
const maxTail = lenEnd + math.MaxUint16

// findDirectory finds the end record, the last one whose comment fits, and by it
// the directory.
func findDirectory(c *content) (directory, error) {
	size, err := c.size()
	if err != nil {
		return directory{}, err
	}
	// Most archives have no comment.
	for _, length := range [...]int64{1 << 10, maxTail} {
		tail := make([]byte, min(size, length))
		base := size - int64(len(tail))
		if n, err := c.ReadAt(tail, base); n < len(tail) {
			return directory{}, shortRead(err)
		}
		if at := lastEnd(tail); at >= 0 {
			return readEnd(c, tail[at:], base+int64(at))
		}
	}
	return directory{}, fmt.Errorf("%w: its list of entries is missing", errBroken)
}

// lastEnd finds the last end record in the tail of a file.
func lastEnd(tail []byte) int {
	for at := len(tail) - lenEnd; at >= 0; at-- {
		at = bytes.LastIndex(tail[:at+4], []byte("PK\x05\x06"))
		if at < 0 || at+lenEnd+int(binary.LittleEndian.Uint16(tail[at+20:])) <= len(tail) {
			return at
		}
	}
	return -1
}

// readEnd reads the end record at a place, and that of zip64 before it, which some
// programs go by whatever the former says.
func readEnd(c *content, end []byte, at int64) (directory, error) {
	count := uint64(binary.LittleEndian.Uint16(end[10:]))
	size := uint64(binary.LittleEndian.Uint32(end[12:]))
	offset := uint64(binary.LittleEndian.Uint32(end[16:]))
	stop := at
	records := []span{{at, at + lenEnd}}
	var locator [lenLocator64]byte
	if at >= lenLocator64 {
		if n, err := c.ReadAt(locator[:], at-lenLocator64); n < len(locator) {
			return directory{}, shortRead(err)
		}
	}
	if binary.LittleEndian.Uint32(locator[:]) == sigLocator64 {
		stop = int64(binary.LittleEndian.Uint64(locator[8:]) & math.MaxInt64)
		var record [lenEnd64]byte
		if n, err := c.ReadAt(record[:], stop); n < len(record) || binary.LittleEndian.Uint32(record[:]) != sigEnd64 {
			return directory{}, shortRead(err)
		}
		isSame := true
		for _, v := range []struct {
			value *uint64
			none  uint64
			at    int
		}{{&count, math.MaxUint16, 32}, {&size, math.MaxUint32, 40}, {&offset, math.MaxUint32, 48}} {
			large := binary.LittleEndian.Uint64(record[v.at:])
			isSame = isSame && (*v.value == v.none || *v.value == large)
			*v.value = large
		}
		if !isSame {
			return directory{}, fmt.Errorf("%w: its two end records disagree", errBroken)
		}
		records = append(records, span{stop, stop + lenEnd64}, span{at - lenLocator64, at})
	}
	if size > uint64(stop) || offset > uint64(stop) || size+offset > uint64(stop) {
		return directory{}, fmt.Errorf("%w: its list of entries is not where it says", errBroken)
	}
	start := stop - int64(size)
	return directory{start: start, shift: start - int64(offset), count: count, records: records}, nil
}

// readEntry reads the next entry of a directory; ok is false behind the last.
func readEntry(in *bufio.Reader, d directory) (e entry, ok bool, err error) {
	signature, err := in.Peek(4)
	if errors.Is(err, errRead) {
		return entry{}, false, err
	}
	if len(signature) < 4 || binary.LittleEndian.Uint32(signature) != sigEntry {
		return entry{}, false, nil
	}
	var head [lenEntry]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return entry{}, false, shortRead(err)
	}
	u16 := func(at int) int { return int(binary.LittleEndian.Uint16(head[at:])) }
	rest := make([]byte, u16(28)+u16(30)+u16(32))
	if _, err := io.ReadFull(in, rest); err != nil {
		return entry{}, false, shortRead(err)
	}
	e = entry{
		name: string(rest[:u16(28)]), flags: uint16(u16(8)), method: uint16(u16(10)),
		packed: int64(binary.LittleEndian.Uint32(head[20:])), size: int64(binary.LittleEndian.Uint32(head[24:])),
		offset: int64(binary.LittleEndian.Uint32(head[42:])), length: int64(lenEntry + len(rest)),
	}
	e.names = []string{e.name}
	e.readExtra(rest[u16(28) : u16(28)+u16(30)])
	if e.offset += d.shift; e.offset < 0 || e.packed < 0 || e.size < 0 {
		return entry{}, false, fmt.Errorf("%w: %s is not where the list says", errBroken, quoted(e.name))
	}
	return e, true, nil
}

// readExtra looks for the sizes of zip64 and for a second name.
func (e *entry) readExtra(extra []byte) {
	for len(extra) >= 4 {
		id, length := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		if extra = extra[4:]; length > len(extra) {
			return
		}
		field := extra[:length]
		extra = extra[length:]
		switch {
		case id == extraZip64:
			for _, value := range []*int64{&e.size, &e.packed, &e.offset} {
				if *value == math.MaxUint32 && len(field) >= 8 {
					*value = int64(binary.LittleEndian.Uint64(field) & (math.MaxInt64 >> 1))
					field = field[8:]
				}
			}
		case id == extraPath && len(field) > 5 && utf8.Valid(field[5:]):
			e.names = append(e.names, string(field[5:]))
		}
	}
}
