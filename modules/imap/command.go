package imap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// literal is an announced literal (RFC 9051 section 4.3).
type literal struct {
	present bool
	size    int64
	// sync tells that the client waits to be asked for it.
	sync bool
	// binary marks a literal8 (RFC 3516 section 4.5).
	binary bool
}

// request is the beginning of a command: what is known from its first line.
type request struct {
	tag, name string
	args      []byte // what follows the name on the first line
}

// argsStart is where the arguments begin in the framed text.
func (r request) argsStart() int { return len(r.tag) + 1 + len(r.name) }

// refusal is a command that is answered without imapserver. open is a literal
// that the client has announced and not yet sent.
type refusal struct {
	status string
	open   literal
}

// Error gives the status, for the log.
func (r *refusal) Error() string { return r.status }

func badSyntax(text string) *refusal { return &refusal{status: "BAD [CLIENTBUG] " + text} }

// readCommand reads one command whole and puts it into feed, or answers it.
func (f *fence) readCommand() error {
	line, err := f.readFirstLine()
	if errors.Is(err, errLongLine) {
		f.out.status(request{tag: "*"}, "BAD [TOOBIG] Command is too long")
		return f.skipLiterals(line)
	}
	if err != nil {
		return err
	}
	if !f.authed && isHTTP(line) {
		f.hangUp("This is an IMAP server")
		return errOver
	}
	r, ok := parseRequest(line)
	if !ok {
		f.out.status(request{tag: "*"}, "BAD [CLIENTBUG] A command is a tag, a space and a name")
		return f.skipLiterals(line)
	}
	refused := f.permit(r)
	if refused == nil {
		if refused, err = f.frame(r); err != nil {
			return err
		}
	}
	if refused != nil {
		f.out.status(r, refused.status)
		return f.drop(refused.open)
	}
	if answer, ok := answers[r.name]; ok && (r.name != "NOOP" || !f.authed) {
		return answer(f, r)
	}
	f.out.begin(r.tag, r.name)
	f.feed = f.text
	return nil
}

// readFirstLine passes over empty lines.
func (f *fence) readFirstLine() ([]byte, error) {
	for range maxBlank {
		line, err := f.readLine(maxText)
		if err != nil || len(line) > 0 {
			return line, err
		}
	}
	return nil, errors.New("read command: nothing but empty lines")
}

// isHTTP tells whether a line is the beginning of a request of HTTP: a web browser
// that was sent here shall not go on, since what it sends may be a stranger's.
func isHTTP(line []byte) bool {
	words := bytes.Fields(line)
	return len(words) == 3 && bytes.HasPrefix(words[2], []byte("HTTP/"))
}

// parseRequest reads tag and name. The result shares line's memory.
func parseRequest(line []byte) (request, bool) {
	tag, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok || !isTag(tag) {
		return request{}, false
	}
	name, args, _ := bytes.Cut(rest, []byte{' '})
	if !isName(name) {
		return request{}, false
	}
	r := request{tag: string(tag), name: strings.ToUpper(string(name)), args: args}
	if r.name == "UID" {
		name, r.args, _ = bytes.Cut(args, []byte{' '})
		if !isName(name) {
			return request{}, false
		}
		r.name = "UID " + strings.ToUpper(string(name))
	}
	return r, true
}

// isTag tells whether s is a tag that can be echoed safely (RFC 9051 section 9),
// of a length that real clients keep to.
func isTag(s []byte) bool {
	for _, c := range s {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\+`, c) >= 0 {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}

// isName tells whether s can be the name of a command.
func isName(s []byte) bool {
	for _, c := range s {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\`, c) >= 0 {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 32
}

// frame reads the rest of a command, puts it into text as one line, and makes
// its literals into quoted strings.
func (f *fence) frame(r request) (*refusal, error) {
	f.text = append(append(append(f.text[:0], r.tag...), ' '), r.name...)
	segment := r.args
	if len(segment) > 0 {
		f.text = append(f.text, ' ')
	}
	for {
		rest, lit, problem := splitLiteral(segment)
		if problem != "" {
			return &refusal{status: "BAD [CLIENTBUG] " + problem, open: lit}, nil
		}
		f.text = append(f.text, rest...)
		if len(f.text) > maxText {
			return &refusal{status: "BAD [TOOBIG] Command is too long", open: lit}, nil
		}
		if !lit.present {
			f.text = append(f.text, "\r\n"...)
			return nil, nil
		}
		if r.name == "APPEND" && len(bytes.TrimSpace(f.text[r.argsStart():])) > 0 {
			f.message = lit
			f.text = append(f.text, "{0}\r\n"...)
			return nil, nil
		}
		refused, err := f.readLiteral(lit)
		if refused != nil || err != nil {
			return refused, err
		}
		segment, err = f.readLine(maxText)
		if errors.Is(err, errLongLine) {
			_, lit := cutAnnouncement(segment)
			return &refusal{status: "BAD [TOOBIG] Command is too long", open: lit}, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// splitLiteral cuts the announcement of a literal off the end of a segment. The
// problem says why the segment cannot be part of a command; the literal is then
// still to be dropped.
func splitLiteral(segment []byte) (rest []byte, lit literal, problem string) {
	rest, lit = cutAnnouncement(segment)
	quoted := false
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == 0 || c == '\r':
			return nil, lit, "NUL or CR inside a line"
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == '{' && !quoted:
			return nil, lit, "A literal is announced at the end of a line"
		}
	}
	switch {
	case quoted && lit.present:
		// The braces belong to a quoted string that does not end.
		return nil, literal{}, "Quoted string without an end"
	case quoted:
		return nil, lit, "Quoted string without an end"
	}
	return rest, lit, ""
}

// cutAnnouncement reads {size} or {size+}, with ~ before a literal8, at the end
// of a segment.
func cutAnnouncement(segment []byte) ([]byte, literal) {
	open := bytes.LastIndexByte(segment, '{')
	if open < 0 || segment[len(segment)-1] != '}' {
		return segment, literal{}
	}
	digits, nonSync := strings.CutSuffix(string(segment[open+1:len(segment)-1]), "+")
	size, err := strconv.ParseInt(digits, 10, 64) // the largest number if it is larger
	if err != nil && !errors.Is(err, strconv.ErrRange) || digits[0] < '0' || digits[0] > '9' {
		return segment, literal{}
	}
	lit := literal{present: true, size: size, sync: !nonSync}
	if open > 0 && segment[open-1] == '~' {
		lit.binary = true
		open--
	}
	return segment[:open], lit
}

// readLiteral reads a literal into text, as a quoted string.
func (f *fence) readLiteral(lit literal) (*refusal, error) {
	switch {
	case lit.binary:
		return &refusal{status: "BAD [CLIENTBUG] A literal8 is for messages only", open: lit}, nil
	case lit.size > int64(maxText-len(f.text)), !f.authed && lit.size > maxEarlyLiteral:
		return &refusal{status: "BAD [TOOBIG] Literal is too long for this command", open: lit}, nil
	}
	if lit.sync {
		f.out.line("+ Go ahead")
	}
	value := make([]byte, lit.size)
	if _, err := io.ReadFull(f.in, value); err != nil {
		return nil, err
	}
	if bytes.ContainsAny(value, "\x00\r\n") {
		rest, err := f.readLine(maxText)
		if err != nil && !errors.Is(err, errLongLine) {
			return nil, err
		}
		_, next := cutAnnouncement(rest)
		return &refusal{status: "BAD [CLIENTBUG] A literal of this command cannot have NUL, CR or LF", open: next}, nil
	}
	f.text = append(f.text, '"')
	for _, c := range value {
		if c == '"' || c == '\\' {
			f.text = append(f.text, '\\')
		}
		f.text = append(f.text, c)
	}
	f.text = append(f.text, '"')
	return nil, nil
}

// drop reads what still belongs to a refused command: a literal that the client
// sends without being asked, and what follows it. A client that waits to be
// asked has nothing more to send.
func (f *fence) drop(lit literal) error {
	limit := f.caps.appendLimit + maxDiscard
	if !f.authed {
		limit = maxEarlyLiteral
	}
	for lit.present && !lit.sync {
		if lit.size > limit {
			f.hangUp("Literal is too large")
			return errOver
		}
		if err := f.copyLiteral(io.Discard, lit.size); err != nil {
			return err
		}
		rest, err := f.readLine(maxText)
		if err != nil && !errors.Is(err, errLongLine) {
			return err
		}
		_, lit = cutAnnouncement(rest)
	}
	return nil
}

// skipLiterals drops the literals that follow a line of a refused command.
func (f *fence) skipLiterals(line []byte) error {
	_, lit := cutAnnouncement(line)
	return f.drop(lit)
}

// minRate is the least speed, in bytes per second, at which a client must send
// a message.
const minRate = 1 << 10

// copyLiteral reads exactly size bytes of the client. Each step has a deadline,
// and the whole has one by the least speed, and by the time for logging in.
func (f *fence) copyLiteral(w io.Writer, size int64) error {
	last := time.Now().Add(f.timeouts.Command + time.Duration(size/minRate)*time.Second)
	for size > 0 {
		limit := f.limit(f.timeouts.Command)
		if limit.After(last) {
			limit = last
		}
		if err := f.net().SetReadDeadline(limit); err != nil {
			return err
		}
		if _, err := f.in.Peek(1); err != nil {
			return unexpectedEOF(err)
		}
		chunk, err := f.in.Peek(int(min(size, int64(f.in.Buffered()))))
		if err != nil {
			return unexpectedEOF(err)
		}
		if _, err := w.Write(chunk); err != nil {
			return err
		}
		n, _ := f.in.Discard(len(chunk))
		size -= int64(n)
	}
	return f.net().SetReadDeadline(f.limit(f.timeouts.Command))
}

func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// receive asks for the message of the current APPEND and writes it to w, then
// reads the end of the command. An error is a *refusal, or the connection's.
// After an error of w the rest of the message is still read.
func (f *fence) receive(w io.Writer) error {
	lit := f.message
	f.message.sync = true // nothing is left to skip
	if lit.sync {
		f.out.line("+ Send the message")
	}
	taken := &tolerant{w: w}
	if err := f.copyLiteral(taken, lit.size); err != nil {
		return fmt.Errorf("receive message: %w", err)
	}
	rest, err := f.readLine(maxText)
	switch {
	case err != nil && !errors.Is(err, errLongLine):
		return fmt.Errorf("receive message: %w", err)
	case len(bytes.TrimSpace(rest)) > 0:
		if err := f.skipLiterals(rest); err != nil {
			return err
		}
		return badSyntax("APPEND takes one message")
	}
	if taken.err != nil {
		return &writeError{taken.err}
	}
	return nil
}

// tolerant goes on without its writer after an error, which it keeps.
type tolerant struct {
	w   io.Writer
	err error
}

func (t *tolerant) Write(p []byte) (int, error) {
	if t.err == nil {
		_, t.err = t.w.Write(p)
	}
	return len(p), nil
}

// writeError is an error of the one who takes in a message, not of the client.
type writeError struct{ cause error }

func (e *writeError) Error() string { return "take in message: " + e.cause.Error() }
func (e *writeError) Unwrap() error { return e.cause }

// skipMessage drops the message of an APPEND that nobody has received.
func (f *fence) skipMessage() error {
	lit := f.message
	f.message = literal{}
	return f.drop(lit)
}
