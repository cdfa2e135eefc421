// Package attachments holds the handler attachments, which looks at what messages
// carry: the names of files, what they are by their content, and what is in zip
// archives, also nested ones.
//
// It walks over MIME (RFC 2045, 2046) in one pass, with names by RFC 2183, 2231
// and 2047, as mail programs show them, broken ones too. Memory does not grow
// with the message: an attachment is decoded block by block at the place that is
// needed, and of an archive only the list, the begin of each entry and nested
// archives are read. Parts, depth, header sizes, entries, what is unpacked and what
// is decoded in all are bounded; what is beyond a bound, or takes longer than the
// handler may, is too complex, never let through as an error.
//
// Where mail programs differ in how they read something, all readings known are
// looked at: fields that come twice and disagree, with comments and without, padding
// within base64, names with gaps. A zip archive must say the same in its list and in
// its entries and have no piece of another one between them.
//
// Files in a text are found that are uuencoded there.
//
// It does not look into other archives (gzip, tar, rar, 7z) and winmail.dat. It finds a zip archive behind something else only if its name is
// that of one, and of an entry only what the list says that it has, not what may
// follow the end of its compressed data. Names are not cut at the length that a
// certain file system allows. Multiparts and messages that are encoded are looked
// into two deep.
package attachments

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

func init() { core.Register(Attachments{}) }

// Attachments denies messages by what they carry: files with certain names, files
// of certain types whatever their names, both in zip archives, too, and archives
// that are encrypted. Forwarded messages that are attached are looked into, and
// uuencoded files in the text.
//
// If a message is tagged, it has the tag attachments=denied,
// attachments=encrypted or attachments=too-complex.
type Attachments struct {
	// Deny are patterns of names, in which a star stands for any letters, a question
	// mark for one and [a-z] for one of several; upper and lower case are the same.
	// The pattern must match the whole name without its folder.
	Deny []string `config:"deny" default:"*.exe,*.scr,*.com,*.pif,*.bat,*.cmd,*.cpl,*.msi,*.msp,*.js,*.jse,*.vbs,*.vbe,*.wsf,*.wsh,*.hta,*.lnk,*.jar,*.ps1,*.reg,*.scf,*.chm,*.dll,*.sys"`
	// Types are types that are told by the content, in which a star stands for any
	// letters: application/x-dosexec (programs for Windows), application/x-elf,
	// application/x-mach-binary, application/java-vm, text/x-script (begins with #!),
	// application/x-office-macros, application/x-ole-storage (older Office files),
	// application/onenote, application/x-ms-shortcut, application/x-ms-help,
	// application/x-iso9660-image, application/vnd.ms-cab-compressed, application/zip,
	// application/x-rar-compressed, application/x-7z-compressed, application/x-gzip,
	// application/pdf, application/rtf, text/html, image/*, audio/*, video/* and others.
	// The text of the message has a type, too.
	Types []string `config:"types" default:"application/x-dosexec,application/x-elf,application/x-mach-binary,application/x-ms-shortcut"`
	// Action is what happens to a message with a file that deny or types match:
	// reject refuses it with 550 and the name of the file, quarantine keeps it out of
	// the inbox, tag marks it.
	Action string `config:"action" default:"reject" values:"reject,quarantine,tag"`
	// Encrypted is what happens to a message with a zip archive that is encrypted,
	// so that only the names in it are known.
	Encrypted string `config:"encrypted" default:"tag" values:"accept,tag,quarantine,reject"`
	// TooComplex is what happens to a message that is not looked at in whole: one that
	// is beyond one of the bounds below, or has a broken archive.
	TooComplex string `config:"too_complex" default:"reject" values:"accept,tag,quarantine,reject"`
	// MaxParts is how many MIME parts a message may have.
	MaxParts int `config:"max_parts,fileonly" default:"1000" min:"1" max:"100000"`
	// MaxDepth is how deep MIME parts and attached messages may be nested.
	MaxDepth int `config:"max_depth" default:"30" min:"1" max:"100"`
	// MaxHeader is how large the header of a part may be.
	MaxHeader config.Size `config:"max_header" default:"64KiB" min:"1KiB" max:"256KiB"`
	// ArchiveDepth is how many archives deep an archive may be within others; 0 looks
	// at the entries of attached archives only. Office files are archives, too.
	ArchiveDepth int `config:"archive_depth" default:"3" min:"0" max:"10"`
	// MaxEntries is how many entries the archives of a message may have together.
	MaxEntries int `config:"max_entries,fileonly" default:"2000" min:"1" max:"100000"`
	// MaxUnpacked is how much is unpacked of a message's archives together. Files in
	// them are unpacked in part, archives in them in whole.
	MaxUnpacked config.Size `config:"max_unpacked,fileonly" default:"50MiB" min:"1MiB" max:"1GiB"`

	ends     []string // those of Deny that have a star in front only, without it
	patterns []string // the others, in lower case
	dir      string   // for files that are large when they are unpacked
}

// Module describes the handler.
func (Attachments) Module() core.Info {
	return core.Info{
		ID:      "handler.attachments",
		Stages:  mail.AtData,
		Timeout: 30 * time.Second,
		New:     func() core.Module { return new(Attachments) },
	}
}

// Provision prepares the patterns.
func (a *Attachments) Provision(ctx *core.Context) error {
	a.dir = ctx.DataDir()
	a.prepare()
	return nil
}

func (a *Attachments) prepare() {
	for _, pattern := range a.Deny {
		pattern = strings.ToLower(pattern)
		if end, ok := strings.CutPrefix(pattern, "*"); ok && !strings.ContainsAny(end, `*?[\`) {
			a.ends = append(a.ends, end)
		} else {
			a.patterns = append(a.patterns, pattern)
		}
	}
}

// Validate checks the patterns.
func (a *Attachments) Validate() core.Problems {
	var problems core.Problems
	for _, pattern := range a.Deny {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" || len(pattern) > maxPattern {
			problems.Errorf("deny", "%q is no pattern of names: write one such as \"*.exe\", of up to %d bytes", mail.Printable(pattern, maxPattern), maxPattern)
		} else if strings.Contains(pattern, "/") {
			problems.Errorf("deny", "%q matches no name, since names are looked at without their folders", mail.Printable(pattern, maxPattern))
		}
	}
	for _, pattern := range a.Types {
		matches := func(name string) bool {
			ok, err := path.Match(pattern, name)
			return ok && err == nil
		}
		if len(pattern) > maxPattern || !slices.ContainsFunc(knownTypes, matches) {
			problems.Errorf("types", "%q matches no type that can be told; there are %s", mail.Printable(pattern, maxPattern), strings.Join(knownTypes, ", "))
		}
	}
	return problems
}

// maxPattern bounds a pattern, in bytes.
const maxPattern = 100

// Handle examines the message.
func (a *Attachments) Handle(ctx context.Context, tx *mail.Transaction) (mail.Verdict, error) {
	x := &examination{Attachments: a, budget: newBudget(tx.Message.Size, ctx.Err)}
	if err := x.examine(tx.Message); err != nil && !errors.Is(err, errEnough) {
		return mail.Verdict{}, fmt.Errorf("examine attachments: %w", err)
	}
	return x.verdict(tx), nil
}

// examine looks at a message. That its time is up, or that it makes more work than
// it is worth, is the fault of the message, not an error.
func (x *examination) examine(m *mail.Message) error {
	x.parts = 1
	f, isDigest := readFields(m.Header, false)
	err := x.walk(m.OpenBody(), &f, isDigest, 0)
	switch {
	case errors.Is(err, errWork):
		return x.tooComplex(fmt.Sprintf("to decode it takes more than %d times its size", workFactor))
	case errors.Is(err, context.DeadlineExceeded):
		return x.tooComplex("it takes longer than timeout")
	}
	return err
}

// verdict acts on what was found.
func (x *examination) verdict(tx *mail.Transaction) mail.Verdict {
	f := x.worst
	if f.reason == "" {
		return mail.Continue(fmt.Sprintf("nothing denied; MIME parts: %d, zip archives: %d, entries in them: %d", x.parts, x.archives, x.entries))
	}
	for _, tag := range x.tags {
		tx.AddTag(tag)
	}
	switch f.action {
	case "reject":
		return mail.Reject(mail.NewReply(550, 7, 1, f.text), f.reason)
	case "quarantine":
		return mail.Quarantine(f.reason)
	}
	return mail.Continue(f.reason)
}

// Interface guards.
var (
	_ core.Provisioner = (*Attachments)(nil)
	_ core.Validator   = (*Attachments)(nil)
	_ core.Handler     = (*Attachments)(nil)
)
