package mailbox

import (
	"encoding/binary"
	"math"
)

// What delivery takes from a message is kept in a compact form: numbers as
// varints, strings after their length. It is written by append functions and
// read by a reader, which never panics: once the bytes end early, all that
// follows is empty.

func appendNumber(b []byte, n int64) []byte { return binary.AppendUvarint(b, uint64(max(n, 0))) }

func appendString[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// blobReader reads what the append functions wrote.
type blobReader struct{ rest string }

func (r *blobReader) number() int64 {
	var n uint64
	for i := range min(len(r.rest), binary.MaxVarintLen64) {
		c := r.rest[i]
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.rest = r.rest[i+1:]
			return int64(n & math.MaxInt64)
		}
	}
	r.rest = ""
	return 0
}

// count reads a number of things that take at least one byte each.
func (r *blobReader) count() int {
	n := r.number()
	if n > int64(len(r.rest)) {
		r.rest = ""
		return 0
	}
	return int(n)
}

func (r *blobReader) string() string {
	n := r.count()
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}
