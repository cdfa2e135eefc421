package imap

import (
	"bytes"
	"net"
	"sync"
	"time"
)

const (
	// gather is how many bytes of responses are collected before they are sent
	// without waiting for the next read.
	gather = 32 << 10
	// writeStep is how much is written under one deadline, so that a slow line
	// is told from a dead one.
	writeStep = 16 << 10
)

var outputBuffers = sync.Pool{New: func() any { b := make([]byte, 0, gather+8<<10); return &b }}

// output gathers responses and sends them before the next blocking read. It
// knows the tag of the command that is being served, and puts right a few of
// imapserver's status responses. It is safe for concurrent use.
type output struct {
	fence *fence

	mu        sync.Mutex
	buffer    *[]byte // from the pool, nil while there is nothing to send
	muted     bool
	greeting  bool // imapserver's greeting is still to come
	lineStart bool
	literals  bool // the session writes data that may look like anything
	tag, name string
	open      bool // the command has no tagged response yet
	instead   string
	badCount  int
	refused   int   // logins
	taken     int64 // bytes that were to be sent so far
}

// begin says which command is being served.
func (o *output) begin(tag, name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tag, o.name, o.open, o.instead = tag, name, true, ""
}

// pending gives the command that waits for its tagged response.
func (o *output) pending() (name string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.name, o.open
}

// skipGreeting throws the next line away: imapserver's greeting, which comes too
// late.
func (o *output) skipGreeting() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.greeting = true
}

// command gives the name of the command that is or was served last.
func (o *output) command() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.name
}

// override replaces the tagged response that comes next.
func (o *output) override(status string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.instead = status
}

// data says that what is written until the returned function is called is not
// to be looked at.
func (o *output) data() (done func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.literals = true
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.literals = false
	}
}

// failures gives the number of syntax errors and of refused logins so far.
func (o *output) failures() (bad, logins int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.badCount, o.refused
}

// progress gives a number that changes with every response. It waits while one
// is being sent, which is the client's time.
func (o *output) progress() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.taken
}

// silent tells whether the client gets nothing more.
func (o *output) silent() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.muted
}

// mute refuses all that is written from now on.
func (o *output) mute() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.muted = true
}

// line sends a line of the fence's own.
func (o *output) line(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.muted {
		o.append([]byte(text + "\r\n"))
	}
}

// status answers a command that imapserver does not get to see.
func (o *output) status(r request, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count(r.name, []byte(text))
	if !o.muted {
		o.append([]byte(r.tag + " " + text + "\r\n"))
	}
}

// Write takes what imapserver flushes: at the end of each line, and when its
// own small buffer is full.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	switch {
	case o.muted:
		return 0, net.ErrClosed
	case o.greeting:
		o.greeting = false
		return n, nil
	}
	start := o.lineStart
	o.lineStart = n > 0 && p[n-1] == '\n'
	if start && !o.literals {
		p = o.edit(p)
	}
	o.append(p)
	if len(*o.buffer) >= gather {
		if err := o.send(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// serverBug is what imapserver answers to arguments that it cannot parse. The
// session gives no error that would be reported so.
const serverBug = "NO [SERVERBUG] Internal server error\r\n"

// edit looks for the tagged response of the command, and changes what is wrong
// with a line.
func (o *output) edit(p []byte) []byte {
	switch {
	case o.open && o.name == "APPEND" && bytes.HasPrefix(p, []byte("+ ")):
		return nil // the session asks for the message itself
	case o.open && o.name == "AUTHENTICATE" && bytes.Equal(p, []byte("+ =\r\n")):
		return []byte("+ \r\n") // an empty challenge (RFC 9051 section 6.2.2)
	}
	status, ok := bytes.CutPrefix(p, []byte(o.tag+" "))
	if !o.open || !ok {
		return p
	}
	o.open = false
	switch {
	case o.instead != "":
		status = []byte(o.instead + "\r\n")
	case string(status) == serverBug:
		status = []byte("BAD [CLIENTBUG] Syntax error in the arguments of " + o.name + "\r\n")
	case bytes.HasPrefix(status, []byte("OK [CAPABILITY ")):
		_, text, _ := bytes.Cut(status, []byte("]"))
		status = []byte("OK [" + o.fence.caps.list(true, true) + "]" + string(text))
	}
	o.count(o.name, status)
	return []byte(o.tag + " " + string(status))
}

// count keeps account of what the client gets wrong; the caller holds the lock.
func (o *output) count(command string, status []byte) {
	if bytes.HasPrefix(status, []byte("BAD")) {
		o.badCount++
	}
	if isLogin(command) && !bytes.HasPrefix(status, []byte("OK")) {
		o.refused++
	}
}

// append collects; the caller holds the lock.
func (o *output) append(p []byte) {
	if o.buffer == nil {
		o.buffer = outputBuffers.Get().(*[]byte)
	}
	*o.buffer = append(*o.buffer, p...)
	o.taken += int64(len(p))
}

// flush sends what was collected.
func (o *output) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.send()
}

// send writes the buffer in steps; the caller holds the lock. After an error
// nothing more is sent.
func (o *output) send() error {
	if o.buffer == nil {
		return nil
	}
	conn := o.fence.net()
	var err error
	for rest := *o.buffer; len(rest) > 0 && err == nil; {
		step := rest[:min(len(rest), writeStep)]
		rest = rest[len(step):]
		if err = conn.SetWriteDeadline(time.Now().Add(o.fence.timeouts.Write)); err == nil {
			_, err = conn.Write(step)
		}
	}
	if cap(*o.buffer) <= 2*gather {
		*o.buffer = (*o.buffer)[:0]
		outputBuffers.Put(o.buffer)
	}
	o.buffer = nil
	o.muted = o.muted || err != nil
	return err
}
