package smtp

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// bdat handles BDAT (RFC 3030 section 2) without go-smtp, which would read the
// chunks in a goroutine of its own. After the last chunk, or a fault, go-smtp is
// given a DATA command for which the message is there already.
func (s *session) bdat(arg []byte) []byte {
	size, last, ok := parseBdat(arg)
	if !ok {
		// Where the chunk ends is not known.
		s.end(mail.NewReply(501, 5, 4, "Syntax: BDAT size [LAST]"), "malformed BDAT")
		return nil
	}
	if s.tx == nil || len(s.tx.Envelope.Recipients) == 0 {
		in := s.newIntake()
		defer in.close()
		in.fault = mail.Reject(mail.NewReply(503, 5, 1, "No valid recipients, send RCPT first"), "BDAT out of order")
		if s.readChunk(in, size) {
			s.say(in.fault.Reply)
		}
		return nil
	}
	if s.chunks == nil {
		s.chunks, s.chunked = s.newIntake(), time.Now()
	}
	in := s.chunks
	if size > in.maxSize-in.spool.Size() {
		in.refuse(tooLarge)
	}
	if !s.readChunk(in, size) {
		return nil
	}
	if s.keptPace(size) {
		s.commands--
		s.useful = s.chunked
	}
	if !last && in.fault.Action == mail.ActionContinue {
		s.say(mail.NewReply(250, 0, 0, fmt.Sprintf("%d octets received", size)))
		return nil
	}
	s.front.hidden++ // the 354
	return []byte("DATA\r\n")
}

// smallChunk is the size from which on a chunk is no command that wins a client
// nothing but time.
const smallChunk = 1 << 10

// keptPace tells whether a chunk is none of the small ones, and came as fast as
// the data rate asks for, the wait for its command included.
func (s *session) keptPace(size int64) bool {
	since := s.chunked
	s.chunked = time.Now()
	return size >= smallChunk && float64(size) >= float64(s.listener.Limits.DataRate)*s.chunked.Sub(since).Seconds()
}

// parseBdat reads the arguments of BDAT.
func parseBdat(arg []byte) (size int64, last, ok bool) {
	digits, word, more := bytes.Cut(bytes.TrimSpace(arg), []byte{' '})
	n, err := strconv.ParseUint(string(digits), 10, 62)
	last = bytes.EqualFold(bytes.TrimSpace(word), []byte("LAST"))
	return int64(n), last, err == nil && more == last
}

// readChunk takes in a chunk. Without success, the session is over.
func (s *session) readChunk(in *intake, size int64) bool {
	p := s.newPace()
	for size > 0 {
		b := s.wire.buffered()
		if len(b) == 0 {
			if err := s.moreData(in, &p); err != nil {
				s.lost(err)
				return false
			}
			continue
		}
		b = b[:min(int64(len(b)), size)]
		in.write(b)
		s.wire.consume(len(b))
		size -= int64(len(b))
	}
	return true
}
