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

	budget   *budget
	parts    int
	archives int
	entries  int
	unpacked int64
	// encodedDepth is how many encoded multiparts and messages are around.
	encodedDepth int

	worst finding // what was found; the zero finding if nothing was
	tags  []string
	head  [headSize]byte // the begin of the file that is looked at
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

// body is what is known of a part's body but by its header.
type body struct {
	isDigest bool
	isDeep   bool
	held     bool // it was walked over and held parts
	depth    int
}

// maxEncoded is how many multiparts and messages that are encoded are looked into
// within each other. RFC 2045 section 6.4 forbids them; some programs read them.
const maxEncoded = 2

// body examines the body of a part in all ways that its header can be read, but for
// the one by which parts were found already.
func (x *examination) body(raw *io.SectionReader, f fields, b body) error {
	encodings := f.encodings
	for i := 0; i < len(encodings); i++ {
		e := encodings[i]
		c := newContent(raw, e, x.budget)
		for _, k := range f.kinds {
			isPlain := e == identity && k == f.kind()
			switch {
			case isPlain && b.held:
				continue
			case k == kindLeaf || isPlain || b.isDeep:
				if err := x.leaf(c, f); err != nil {
					return err
				}
			default:
				if err := x.rewalk(c, f, k, b); err != nil {
					return err
				}
			}
		}
		if e == base64 && c.last.isOdd {
			encodings = append(slices.Clone(encodings), base64Whole, base64Parts)
		}
	}
	return nil
}

// leaf examines what a part has inside, and what is in there if it is text.
func (x *examination) leaf(c *content, f fields) error {
	err := x.file(c, f.names, 0)
	if err == nil && f.isText {
		err = x.uuencoded(c)
	}
	return err
}

// rewalk walks over a body another time: decoded, or as another kind.
func (x *examination) rewalk(c *content, f fields, k kind, b body) error {
	if c.encoding != identity {
		if x.encodedDepth == maxEncoded {
			return x.tooComplex(fmt.Sprintf("more than %d multiparts or messages within each other are encoded", maxEncoded))
		}
		x.encodedDepth++
		defer func() { x.encodedDepth-- }()
	}
	src := io.NewSectionReader(c, 0, c.raw.Size()+3)
	if k == kindMessage {
		return x.walk(src, nil, false, b.depth+1)
	}
	f.kinds, f.encodings, f.complexity = []kind{kindMultipart}, []encoding{identity}, ""
	return x.walk(src, &f, b.isDigest, b.depth+1)
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
// the zero byte, without the dots and spaces at the end that Windows drops, without
// what follows a colon, which is no part of the name there, or many spaces, and
// without quotes at the end.
func variants(name string) []string {
	if len(name) > maxName {
		name = name[len(name)-maxName:]
	}
	var list []string
	add := func(s string) {
		if i := strings.LastIndexAny(s, `/\`); i >= 0 {
			s = s[i+1:]
		}
		s = strings.TrimRightFunc(s, func(r rune) bool { return r == '.' || r == '\'' || r == '"' || unicode.IsSpace(r) })
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
	if first, _, cut := strings.Cut(strings.TrimLeft(name, " "), manySpaces); cut {
		add(first)
	}
	return list
}

// manySpaces are so many that what follows is cut off, on the disk or on the screen.
const manySpaces = "    "

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
	x.addUnpacked(n)
	if err != nil || n < unpackMemory || n > left {
		return newContent(io.NewSectionReader(bytes.NewReader(memory.Bytes()), 0, n), identity, x.budget), func() {}, err
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
	x.addUnpacked(more)
	if err != nil {
		free()
		return nil, nil, err
	}
	return newContent(io.NewSectionReader(f, 0, n+more), identity, x.budget), free, nil
}

// addUnpacked counts what was unpacked. It may be looked at as the message itself.
func (x *examination) addUnpacked(n int64) {
	x.unpacked += n
	x.budget.left += workFactor * n
}

// unpackMemory is how much of an archive in an archive is kept in memory.
const unpackMemory = 256 << 10
