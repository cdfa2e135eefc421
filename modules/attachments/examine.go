package attachments

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/mox-like/mox-like/core/mail"
)

// matter is what is wrong with a message.
type matter uint8

const (
	matterDenied matter = iota
	matterEncrypted
	matterComplex
)

// String gives the word for it in tags.
func (m matter) String() string {
	return [...]string{matterDenied: "denied", matterEncrypted: "encrypted", matterComplex: "too-complex"}[m]
}

// finding is something that a setting has an action for.
type finding struct {
	matter matter
	action string
	reason string // for the operator
	text   string // for the client, in ASCII
}

// examination is the work on one message.
type examination struct {
	*Attachments

	alive    func() error
	parts    int
	archives int
	entries  int
	unpacked int64
	worst    finding // what was found; the zero finding if nothing was
	tags     []string
	head     [headSize]byte // the begin of the file that is looked at
}

// errEnough is returned when nothing that may be found yet changes the verdict.
var errEnough = errors.New("enough is known")

// severity orders the actions.
func severity(action string) int {
	switch action {
	case "tag":
		return 1
	case "quarantine":
		return 2
	case "reject":
		return 3
	default:
		return 0
	}
}

// note keeps a finding if it is worse than those before.
func (x *examination) note(f finding) error {
	if severity(f.action) > severity(x.worst.action) || x.worst.reason == "" {
		x.worst = f
	}
	switch tag := "attachments=" + f.matter.String(); {
	case f.action == "reject":
		return errEnough
	case f.action == "tag" && !slices.Contains(x.tags, tag):
		x.tags = append(x.tags, tag)
	}
	return nil
}

// maxShown bounds the names of files in reasons and replies.
const maxShown = 100

func (x *examination) deny(name, why string) error {
	return x.note(finding{
		matter: matterDenied, action: x.Action, reason: fmt.Sprintf("%s: %s", quoted(name), why),
		text: "Attachment not allowed: " + ascii(quoted(name)),
	})
}

func (x *examination) encrypted(name string) error {
	if x.Encrypted == "accept" {
		return nil
	}
	return x.note(finding{
		matter: matterEncrypted, action: x.Encrypted, reason: quoted(name) + ": the archive is encrypted",
		text: "Encrypted archive not allowed: " + ascii(quoted(name)),
	})
}

func (x *examination) tooComplex(why string) error {
	return x.note(finding{
		matter: matterComplex, action: x.TooComplex, reason: "not examined in whole: " + why,
		text: "Message is too complex or too broken to be examined",
	})
}

// countPart counts a part; beyond the bound nothing more is looked at.
func (x *examination) countPart() error {
	if x.parts++; x.parts <= x.MaxParts {
		return nil
	}
	if err := x.tooComplex(fmt.Sprintf("it has more parts than max_parts, %d", x.MaxParts)); err != nil {
		return err
	}
	return errEnough
}

// countEntry counts an entry of an archive.
func (x *examination) countEntry() error {
	if x.entries++; x.entries <= x.MaxEntries {
		return nil
	}
	if err := x.tooComplex(fmt.Sprintf("its archives have more entries than max_entries, %d", x.MaxEntries)); err != nil {
		return err
	}
	return errEnough
}

// named holds names against the patterns.
func (x *examination) named(names []string) error {
	for _, name := range names {
		for _, variant := range variants(name) {
			if pattern, ok := x.match(variant); ok {
				return x.deny(name, "the name matches "+pattern)
			}
		}
	}
	return nil
}

// match finds a pattern of names that matches one.
func (x *examination) match(name string) (pattern string, ok bool) {
	for _, end := range x.ends {
		if strings.HasSuffix(name, end) {
			return "*" + end, true
		}
	}
	for _, pattern := range x.patterns {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			return pattern, true
		}
	}
	return "", false
}

// typed holds the type of a file against the types that are denied.
func (x *examination) typed(names []string, found string) error {
	if pattern, ok := x.isDenied(found); ok {
		why := "the content is " + found
		if pattern != found {
			why += ", which matches " + pattern
		}
		return x.deny(nameOf(names), why)
	}
	return nil
}

func (x *examination) isDenied(found string) (pattern string, ok bool) {
	for _, pattern := range x.Types {
		if ok, err := path.Match(pattern, found); ok && err == nil {
			return pattern, true
		}
	}
	return "", false
}

func nameOf(names []string) string {
	if len(names) == 0 {
		return "(without a name)"
	}
	return names[0]
}

// leaf examines a part that holds no others.
func (x *examination) leaf(raw *io.SectionReader, f fields, isDigest, isDeep bool, depth int) error {
	if err := x.named(f.names); err != nil {
		return err
	}
	for _, e := range f.encodings {
		c := newContent(raw, e, x.alive)
		if f.kind != kindLeaf && e != identity && !isDeep {
			// Encoded, which RFC 2045 section 6.4 forbids and some programs read.
			src := io.NewSectionReader(c, 0, raw.Size()+3)
			inner := &f
			if f.kind == kindMessage {
				inner = nil
			} else {
				f.encodings = []encoding{identity}
			}
			if err := x.walk(src, inner, isDigest, depth+1); err != nil {
				return err
			}
			continue
		}
		if err := x.file(c, f.names, 0); err != nil {
			return err
		}
	}
	return nil
}

// file examines what a part or an entry of an archive has inside.
func (x *examination) file(c *content, names []string, depth int) error {
	n, err := c.ReadAt(x.head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	found := sniff(x.head[:n])
	if n == headSize && found == unknownType {
		var mark [5]byte
		if n, err := c.ReadAt(mark[:], isoOffset); errors.Is(err, errRead) {
			return err
		} else if string(mark[:n]) == "CD001" {
			found = typeISO
		}
	}
	if err := x.typed(names, found); err != nil {
		return err
	}
	switch {
	case found == typeOLE:
		return x.ole(c, names)
	case found == typeZip || isZipName(names):
		return x.archive(c, names, found == typeZip, depth)
	}
	return nil
}

// ole looks for macros in a file of the older Office.
func (x *examination) ole(c *content, names []string) error {
	if _, ok := x.isDenied(typeMacros); !ok {
		return nil
	}
	const step = 32 << 10
	buffer := make([]byte, step+len(macroMark))
	for offset := int64(0); ; offset += step {
		n, err := c.ReadAt(buffer, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if bytes.Contains(buffer[:n], macroMark) {
			return x.typed(names, typeMacros)
		}
		if n < len(buffer) {
			return nil
		}
	}
}

// variants gives the forms in which a name may reach the disk of who opens the
// file, in lower case: without folders, without signs that are not seen, up to
// the zero byte, without the dots and spaces at the end that Windows drops, and
// without what follows a colon, which is no part of the name there.
func variants(name string) []string {
	if len(name) > maxName {
		name = name[len(name)-maxName:]
	}
	var list []string
	add := func(s string) {
		if i := strings.LastIndexAny(s, `/\`); i >= 0 {
			s = s[i+1:]
		}
		s = strings.TrimRight(s, ". ")
		if s != "" && (len(list) == 0 || list[len(list)-1] != s) {
			list = append(list, s)
		}
	}
	first, _, cut := strings.Cut(name, "\x00")
	name = clean(name)
	add(name)
	if cut {
		add(clean(first))
	}
	if first, _, cut := strings.Cut(strings.TrimLeft(name, ":"), ":"); cut {
		add(first)
	}
	return list
}

// clean gives a name in lower case without what is not seen.
func clean(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

// quoted gives a name for a reason.
func quoted(name string) string { return `"` + mail.Printable(name, maxShown) + `"` }

// ascii makes a text fit for a reply.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// unpack writes what r has into memory or, if it is large, into a file without a
// name, which close frees.
func (x *examination) unpack(r io.Reader) (c *content, free func(), err error) {
	left := int64(x.MaxUnpacked) - x.unpacked
	var memory bytes.Buffer
	n, err := io.Copy(&memory, io.LimitReader(r, min(left+1, unpackMemory)))
	x.unpacked += n
	if err != nil || n < unpackMemory || n > left {
		return newContent(io.NewSectionReader(bytes.NewReader(memory.Bytes()), 0, n), identity, x.alive), func() {}, err
	}
	f, err := os.CreateTemp(x.dir, "attachment-*")
	if err != nil {
		return nil, nil, fmt.Errorf("%w: create file: %w", errRead, err)
	}
	free = func() { _ = f.Close() }
	if err := os.Remove(f.Name()); err != nil {
		free()
		return nil, nil, fmt.Errorf("%w: unlink file: %w", errRead, err)
	}
	if _, err := f.Write(memory.Bytes()); err != nil {
		free()
		return nil, nil, fmt.Errorf("%w: write file: %w", errRead, err)
	}
	more, err := io.Copy(f, io.LimitReader(r, left+1-n))
	x.unpacked += more
	if err != nil {
		free()
		return nil, nil, err
	}
	return newContent(io.NewSectionReader(f, 0, n+more), identity, x.alive), free, nil
}

// unpackMemory is how much of an archive in an archive is kept in memory.
const unpackMemory = 256 << 10
