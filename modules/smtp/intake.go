package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"

	"github.com/mox-like/mox-like/core/mail"
)

// spoolMemory is how much of a message stays in memory.
const spoolMemory = 256 << 10

// intake takes the content of one message in, already without dots and chunk
// borders, and watches it: size, length of lines, line ends, NUL. After the first
// fault it only counts.
type intake struct {
	spool     *mail.Spool
	maxSize   int64
	maxLine   int
	normalise bool

	fault mail.Verdict // the zero Verdict as long as nothing is wrong
	seen  int64
	lineN int  // length of the line that has begun
	cr    bool // it ends in a CR so far
}

func (s *session) newIntake() *intake {
	l := s.listener
	return &intake{
		spool: mail.NewSpool(l.spoolDir, spoolMemory).Within(l.spool, int64(l.Limits.Spool)), maxSize: int64(l.MaxMessageSize),
		maxLine: int(l.Limits.LineLength), normalise: l.BareNewlines == normalise,
	}
}

// drowned tells that so much came after a fault that the session is not worth
// its bytes.
func (in *intake) drowned() bool {
	return in.fault.Action != mail.ActionContinue && in.seen > in.maxSize+1<<20
}

var (
	bareNewline = mail.NewReply(554, 5, 2, "The message has a CR or LF alone: lines end with CR LF")
	hasNUL      = mail.NewReply(554, 6, 0, "The message has a NUL byte")
	longLine    = mail.NewReply(554, 6, 0, "The message has a line that is too long")
	largeHeader = mail.NewReply(552, 3, 4, "Header section is larger than this server takes")
)

// refuse remembers the first fault.
func (in *intake) refuse(r mail.Reply) { in.fail(mail.Reject(r, r.Text)) }

// fail remembers the first fault. What has come in is of no use any more.
func (in *intake) fail(fault mail.Verdict) {
	if in.fault.Action == mail.ActionContinue {
		in.fault = fault
		in.close()
	}
}

// write takes the next bytes in, wherever they are cut.
func (in *intake) write(p []byte) {
	in.seen += int64(len(p))
	if len(p) == 0 || in.fault.Action != mail.ActionContinue {
		return
	}
	if bytes.IndexByte(p, 0) >= 0 {
		in.refuse(hasNUL)
		return
	}
	if in.normalise {
		in.writeLines(p)
		return
	}
	if in.checkLines(p); in.fault.Action == mail.ActionContinue {
		in.store(p)
	}
}

// checkLines looks for line ends that are none. A CR at the end of p is judged
// with the next bytes.
func (in *intake) checkLines(p []byte) {
	if len(p) > 0 && in.cr && p[0] != '\n' {
		in.refuse(bareNewline)
		return
	}
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		text := p
		if end >= 0 {
			text = p[:end]
		}
		cr := bytes.IndexByte(text, '\r')
		atEnd := cr >= 0 && cr == len(text)-1
		if cr >= 0 && !atEnd || end > 0 && !atEnd || end == 0 && !in.cr {
			in.refuse(bareNewline)
			return
		}
		if in.lineN += len(text); in.lineN >= in.maxLine {
			in.refuse(longLine)
			return
		}
		if in.cr = atEnd; end < 0 {
			return
		}
		in.lineN, in.cr = 0, false
		p = p[end+1:]
	}
}

// writeLines makes every CR, LF and CR LF into CR LF.
func (in *intake) writeLines(p []byte) {
	for len(p) > 0 && in.fault.Action == mail.ActionContinue {
		if in.cr {
			in.cr = false
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			i = len(p)
		}
		in.store(p[:i])
		if in.lineN += i; in.lineN > in.maxLine {
			in.refuse(longLine)
		}
		if i == len(p) || in.fault.Action != mail.ActionContinue {
			return
		}
		in.store(crlf)
		in.lineN, in.cr = 0, p[i] == '\r'
		p = p[i+1:]
	}
}

var crlf = []byte("\r\n")

// store hands bytes to the spool.
func (in *intake) store(p []byte) {
	if in.spool.Size()+int64(len(p)) > in.maxSize {
		in.refuse(tooLarge)
		return
	}
	if _, err := in.spool.Write(p); err != nil {
		in.broken(err)
	}
}

// broken makes an error of the spool the fault. The client comes back.
func (in *intake) broken(err error) {
	reply := mail.NewReply(451, 3, 0, "Local error in processing, try again later")
	if errors.Is(err, mail.ErrSpoolFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		reply = mail.NewReply(452, 3, 1, "Insufficient system storage, try again later")
	}
	in.fail(mail.Defer(reply, fmt.Sprintf("spool message: %v", err)))
}

// message ends the intake and gives the message, each time that it is called; the
// fault says why if there is none.
func (in *intake) message() *mail.Message {
	if in.cr && !in.normalise {
		in.refuse(bareNewline)
	}
	if in.lineN > 0 && in.fault.Action == mail.ActionContinue {
		in.store(crlf) // the last chunk of BDAT need not end a line
		in.lineN = 0
	}
	if in.fault.Action != mail.ActionContinue {
		return nil
	}
	m, err := in.spool.Message()
	switch {
	case errors.Is(err, mail.ErrHeaderTooLarge):
		in.refuse(largeHeader)
	case err != nil:
		in.broken(err)
	}
	return m
}

func (in *intake) close() { _ = in.spool.Close() }
