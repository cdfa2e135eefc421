package rspamd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// errTooMuch is returned for an answer that is longer than is read. What rspamd lists
// is what the message has, so that is the message's fault, and not rspamd's.
var errTooMuch = errors.New("its answer is longer than is read")

// formError is an answer that is none.
type formError struct{ error }

// wanted are the members of an answer that are used. The longest of the others are
// urls and emails, which the sender makes as long as he likes.
var wanted = map[string]bool{
	"action": true, "score": true, "required_score": true, "thresholds": true, "symbols": true, "messages": true,
	"subject": true, "milter": true, "dkim-signature": true, "error": true,
}

// extract reads an answer, which is an object, and gives it with the members that are
// wanted. Nothing is kept of the others, and their form is not looked at but for where
// they end.
func extract(in io.Reader) ([]byte, error) {
	limited := &io.LimitedReader{R: in, N: maxRead + 1}
	e := extractor{in: bufio.NewReader(limited)}
	err := e.object()
	switch {
	case limited.N == 0:
		return nil, fmt.Errorf("%w: %d bytes", errTooMuch, maxRead)
	case errors.Is(err, io.EOF):
		return nil, formError{errors.New("it is no JSON of the right form: it ends too early")}
	}
	return e.kept.Bytes(), err
}

// extractor reads JSON byte by byte.
type extractor struct {
	in   *bufio.Reader
	kept bytes.Buffer
	keep bool
}

func (e *extractor) next() (byte, error) {
	c, err := e.in.ReadByte()
	if err == nil && e.keep {
		if e.kept.Len() >= maxAnswer {
			return 0, fmt.Errorf("%w: %d bytes without lists of URLs and addresses", errTooMuch, maxAnswer)
		}
		e.kept.WriteByte(c)
	}
	return c, err
}

// visible gives the next byte that is no white space, which is not kept.
func (e *extractor) visible() (byte, error) {
	for {
		c, err := e.in.ReadByte()
		if err != nil || !isSpace(c) {
			return c, err
		}
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// expect reads a byte that must come next.
func (e *extractor) expect(want byte) error {
	c, err := e.visible()
	if err == nil && c != want {
		err = formError{fmt.Errorf("it is no JSON of the right form: %q where %q should be", c, want)}
	}
	return err
}

// object reads all of the answer.
func (e *extractor) object() error {
	if err := e.expect('{'); err != nil {
		return err
	}
	e.kept.WriteByte('{')
	for first := true; ; first = false {
		c, err := e.visible()
		switch {
		case err != nil:
			return err
		case c == '}' && first:
			return e.end()
		case c != '"':
			return formError{fmt.Errorf("it is no JSON of the right form: %q where a name should be", c)}
		}
		if err := e.member(); err != nil {
			return err
		}
		switch c, err = e.visible(); {
		case err != nil:
			return err
		case c == '}':
			return e.end()
		case c != ',':
			return formError{fmt.Errorf("it is no JSON of the right form: %q behind a value", c)}
		}
	}
}

// end reads what follows the object: nothing.
func (e *extractor) end() error {
	e.kept.WriteByte('}')
	c, err := e.visible()
	if err == nil {
		return formError{fmt.Errorf("it is no JSON of the right form: %q behind its end", c)}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// member reads one behind the quote that begins its name.
func (e *extractor) member() error {
	start := e.kept.Len()
	if start > len("{") {
		e.kept.WriteByte(',')
	}
	e.kept.WriteByte('"')
	name := e.kept.Len()
	e.keep = true
	err := e.text()
	e.keep = false
	if err != nil {
		return err
	}
	keep := wanted[string(e.kept.Bytes()[name:e.kept.Len()-1])]
	if err := e.expect(':'); err != nil {
		return err
	}
	if !keep {
		e.kept.Truncate(start)
		return e.value()
	}
	e.kept.WriteByte(':')
	e.keep = true
	err = e.value()
	e.keep = false
	return err
}

// text reads a string behind its first quote.
func (e *extractor) text() error {
	for {
		c, err := e.next()
		if err == nil && c == '\\' {
			_, err = e.next()
		} else if c == '"' {
			return err
		}
		if err != nil {
			return err
		}
	}
}

// value reads a value and leaves what follows it, but for white space in front.
func (e *extractor) value() error {
	for depth, begun := 0, false; ; {
		if depth == 0 && begun {
			c, err := e.in.ReadByte()
			if err != nil {
				return err
			}
			if err := e.in.UnreadByte(); err != nil || c == ',' || c == '}' || isSpace(c) {
				return err
			}
		}
		c, err := e.next()
		if err != nil {
			return err
		}
		begun = begun || !isSpace(c)
		switch c {
		case '"':
			err = e.text()
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if err != nil {
			return err
		}
		if depth < 0 {
			return formError{errors.New("it is no JSON of the right form: it ends in a value")}
		}
	}
}
