package attachments

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	encoder "encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"mime/quotedprintable"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/core/coretest"
	"github.com/mox-like/mox-like/core/mail"
)

// newHandler gives a handler with the defaults, but for what set changes.
func newHandler(tb testing.TB, set func(*Attachments)) *Attachments {
	tb.Helper()
	a := &Attachments{
		Deny: strings.Split("*.exe,*.scr,*.js,*.jar", ","), Types: strings.Split("application/x-dosexec,application/x-elf", ","),
		Action: "reject", Encrypted: "tag", TooComplex: "reject", MaxParts: 1000, MaxDepth: 30, MaxHeader: 64 << 10,
		ArchiveDepth: 3, MaxEntries: 2000, MaxUnpacked: 50 << 20, dir: tb.TempDir(),
	}
	if set != nil {
		set(a)
	}
	a.prepare()
	return a
}

func newTransaction(tb testing.TB, raw string) *mail.Transaction {
	tb.Helper()
	tx := coretest.Transaction(tb, mail.StageData, 1)
	message, err := mail.NewMessage([]byte(raw))
	if err != nil {
		tb.Fatal(err)
	}
	tx.Message = message
	return tx
}

const top = "From: a@example.org\r\nTo: user@example.test\r\nSubject: Files\r\nMIME-Version: 1.0\r\n"

// message gives a message of one part.
func message(part string) string { return top + part }

// mixed gives the header and the body of a multipart.
func mixed(boundary string, parts ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%q\r\n\r\nPreamble.\r\n", boundary)
	for _, part := range parts {
		fmt.Fprintf(&b, "--%s\r\n%s\r\n", boundary, part)
	}
	fmt.Fprintf(&b, "--%s--\r\nEpilogue.\r\n", boundary)
	return b.String()
}

const text = "Content-Type: text/plain; charset=utf-8\r\n\r\nSee the attachment.\r\n--\r\nA.\r\n"

// filePart gives a part with a name, in base64.
func filePart(name string, content []byte) string {
	return "Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\n" + inBase64(content)
}

func inBase64(content []byte) string {
	var b strings.Builder
	b.WriteString("Content-Transfer-Encoding: base64\r\n\r\n")
	line := encoder.StdEncoding.EncodeToString(content)
	for len(line) > 76 {
		b.WriteString(line[:76] + "\r\n")
		line = line[76:]
	}
	b.WriteString(line + "\r\n")
	return b.String()
}

func inQuotedPrintable(content []byte) string {
	var b strings.Builder
	b.WriteString("Content-Transfer-Encoding: quoted-printable\r\n\r\n")
	w := quotedprintable.NewWriter(&b)
	w.Binary = true
	_, _ = w.Write(content)
	_ = w.Close()
	return b.String()
}

// packed is a file for an archive.
type packed struct {
	name    string
	content []byte
	store   bool
	flags   uint16
	extra   []byte
}

// zipped makes an archive.
func zipped(tb testing.TB, files ...packed) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Flags: f.flags, Extra: f.extra}
		if f.store {
			h.Method = zip.Store
		}
		if f.flags&flagEncrypted != 0 {
			h.CompressedSize64, h.UncompressedSize64 = uint64(len(f.content)), uint64(len(f.content))
			raw, err := w.CreateRaw(h)
			if err != nil {
				tb.Fatal(err)
			}
			_, _ = raw.Write(f.content)
			continue
		}
		entry, err := w.CreateHeader(h)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := entry.Write(f.content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// zip64 makes an archive of one stored file whose sizes and places are all in
// records of zip64, behind something else.
func zip64(name string, content []byte) []byte {
	le := binary.LittleEndian
	const before = "something else"
	b := []byte(before)
	record := func(signature uint32, length int, set func(r []byte)) {
		r := make([]byte, length)
		le.PutUint32(r, signature)
		set(r)
		b = append(b, r...)
	}
	record(sigFile, lenFile, func(r []byte) {
		le.PutUint32(r[18:], uint32(len(content)))
		le.PutUint32(r[22:], uint32(len(content)))
		le.PutUint16(r[26:], uint16(len(name)))
	})
	b = append(append(b, name...), content...)
	directory := len(b)
	record(sigEntry, lenEntry, func(r []byte) {
		le.PutUint32(r[20:], math.MaxUint32)
		le.PutUint32(r[24:], math.MaxUint32)
		le.PutUint16(r[28:], uint16(len(name)))
		le.PutUint16(r[30:], 4+24)
		le.PutUint32(r[42:], math.MaxUint32)
	})
	b = le.AppendUint32(append(b, name...), extraZip64|24<<16)
	b = le.AppendUint64(le.AppendUint64(b, uint64(len(content))), uint64(len(content)))
	b = le.AppendUint64(b, 0)
	end := len(b)
	record(sigEnd64, lenEnd64, func(r []byte) {
		le.PutUint64(r[4:], lenEnd64-12)
		le.PutUint64(r[32:], 1)
		le.PutUint64(r[40:], uint64(end-directory))
		le.PutUint64(r[48:], uint64(directory-len(before)))
	})
	record(sigLocator64, lenLocator64, func(r []byte) { le.PutUint64(r[8:], uint64(end)) })
	record(sigEnd, lenEnd, func(r []byte) {
		le.PutUint16(r[10:], math.MaxUint16)
		le.PutUint32(r[12:], math.MaxUint32)
		le.PutUint32(r[16:], math.MaxUint32)
	})
	return b
}

// program is the begin of one for Windows.
var program = append(append([]byte("MZ\x90\x00"), make([]byte, 56)...), []byte("\x40\x00\x00\x00PE\x00\x00L\x01")...)

var elf = []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00")

// oleFile is an older Office file, with macros or without.
func oleFile(macros bool) []byte {
	b := append([]byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), make([]byte, 100_000)...)
	if macros {
		b = append(b, macroMark...)
	}
	return append(b, make([]byte, 1000)...)
}

// bomb is an archive of archives that each unpack to much.
func bomb(tb testing.TB, levels, width int) []byte {
	tb.Helper()
	inner := packed{name: "zeros.bin", content: make([]byte, 4<<20)}
	content := zipped(tb, inner)
	for level := range levels {
		var files []packed
		for i := range width {
			files = append(files, packed{name: fmt.Sprintf("%d-%d.zip", level, i), content: content})
		}
		content = zipped(tb, files...)
	}
	return content
}

// zipOfZeros is an archive with an entry that unpacks to size zeros behind the begin
// of an archive.
func zipOfZeros(tb testing.TB, size int64) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestSpeed) })
	entry, err := w.Create("large.zip")
	if err != nil {
		tb.Fatal(err)
	}
	_, _ = io.WriteString(entry, "PK\x03\x04")
	zeros := make([]byte, 1<<20)
	for range size >> 20 {
		_, _ = entry.Write(zeros)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}
