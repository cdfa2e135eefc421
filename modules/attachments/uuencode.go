package attachments

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// uuFile is a file that stands in a text by itself.
type uuFile struct {
	name     string
	encoding encoding
	start    int64 // behind the line of begin
}

// uuencoded examines the files in a text, which some mail programs show as attached:
// from "begin 644 name" to "end", or to the end of the text. Each counts as a part.
func (x *examination) uuencoded(c *content) error {
	in := lineReaders.Get().(*bufio.Reader)
	defer func() { in.Reset(nil); lineReaders.Put(in) }()
	in.Reset(c.reader())
	var open uuFile
	inLine, pos := false, int64(0)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, errRead) {
			return err
		}
		isEnd := errors.Is(err, io.EOF)
		next, begins := uuBegin(line)
		begins = begins && !inLine
		if open.name != "" && (isEnd || begins || !inLine && string(bytes.TrimSpace(line)) == "end") {
			if err := x.uuFile(c, open, pos); err != nil {
				return err
			}
			open = uuFile{}
		}
		pos += int64(len(line))
		if begins {
			open = next
			open.start = pos
		}
		if isEnd && open.name == "" {
			return nil
		}
		inLine = len(line) > 0 && line[len(line)-1] != '\n'
	}
}

// uuFile examines a file of a text, which ends at a place.
func (x *examination) uuFile(c *content, f uuFile, end int64) error {
	if err := x.countPart(); err != nil {
		return err
	}
	names := []string{f.name}
	if err := x.named(names); err != nil {
		return err
	}
	return x.file(newContent(io.NewSectionReader(c, f.start, end-f.start), f.encoding, x.budget), names, 0)
}

// uuBegin understands the line with which a file begins: begin, or begin-base64, the
// mode in octal digits, and the name (POSIX, uuencode). Outlook does without the mode
// behind two spaces.
func uuBegin(line []byte) (f uuFile, ok bool) {
	text, ok := bytes.CutPrefix(line, []byte("begin"))
	if !ok {
		return uuFile{}, false
	}
	f.encoding = uuencode
	if rest, ok := bytes.CutPrefix(text, []byte("-base64")); ok {
		text, f.encoding = rest, base64
	}
	rest := bytes.TrimLeft(text, " \t")
	name := bytes.TrimLeft(rest, "01234567")
	blanks, mode := len(text)-len(rest), len(rest)-len(name)
	switch {
	case blanks > 0 && mode > 0 && len(name) > 0 && (name[0] == ' ' || name[0] == '\t'):
	case blanks > 1:
		name = rest
	default:
		return uuFile{}, false
	}
	f.name = string(bytes.TrimSpace(name))
	return f, f.name != ""
}

// appendUU decodes the lines of a file, of which each begins with a sign for how many
// bytes it has. What is missing of a line is left out.
func (d *decoder) appendUU(dst, src []byte) []byte {
	for _, c := range src {
		switch {
		case c == '\n':
			dst = d.finish(dst)
			d.inLine = false
		case !d.inLine:
			d.inLine, d.left = true, 0
			if c >= ' ' && c <= '`' {
				d.left = (c - ' ') & 63
			}
		case c < ' ' || c > '`' || d.left == 0:
		default:
			d.bits = d.bits<<6 | uint32(c-' ')&63
			if d.digits++; d.digits == 4 {
				dst = d.finish(dst)
			}
		}
	}
	return dst
}

// finishUU appends what a group has, as far as its line has so much.
func (d *decoder) finishUU(dst []byte) []byte {
	bits := d.bits << (6 * (4 - d.digits))
	n := min(d.left, d.digits*3/4)
	dst = append(dst, []byte{byte(bits >> 16), byte(bits >> 8), byte(bits)}[:n]...)
	d.left -= n
	return dst
}
