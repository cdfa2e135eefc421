package trace

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/mox-like/mox-like/core/mail"
)

// format is the first byte of an encoded record. Stages and actions are numbers
// in it, so that a change of theirs needs a new format as any other change does.
// In format 1 entries have no settings, and the outcome does not say quarantine.
const (
	format1 = 1
	format  = 2
)

// errDamaged is returned when a stored record cannot be read.
var errDamaged = errors.New("stored trace is damaged or of a newer build")

// encode gives all of a record but its ID, kind and time, which are columns of
// their own. It is some ten times as fast as JSON and half as long, which counts
// since every message is traced. Numbers are varints, a text is its length and
// its bytes, a list is its length and its elements.
func encode(r *Record) []byte {
	b := make(encoder, 0, encodedSize(r))
	b = append(b, format)
	b = b.number(r.Duration.Microseconds()).number(r.Size)
	for _, s := range r.texts() {
		b = b.text(*s)
	}
	b = b.number(int64(len(r.Recipients)))
	for _, recipient := range r.Recipients {
		b = b.text(recipient)
	}
	b = b.number(int64(len(r.Entries)))
	for i := range r.Entries {
		b = b.entry(&r.Entries[i])
	}
	return b
}

// texts are the single texts of a record in their order.
func (r *Record) texts() [12]*string {
	return [...]*string{
		&r.Session, &r.Protocol, &r.Listener, &r.RemoteIP, &r.Helo, &r.User, &r.ReversePath, &r.MessageID,
		&r.Outcome.Action, &r.Outcome.Handler, &r.Outcome.Reply, &r.Outcome.Reason,
	}
}

// entryTexts are those of an entry.
func entryTexts(e *mail.Entry) [6]*string {
	return [...]*string{&e.Handler, &e.Position, &e.Recipient, &e.Reason, &e.Note, &e.Reply.Text}
}

// encodedSize is a little more than the length of the encoded record.
func encodedSize(r *Record) int {
	size := 64
	for _, s := range r.texts() {
		size += len(*s)
	}
	for _, s := range r.Recipients {
		size += len(s) + 2
	}
	for i := range r.Entries {
		size += 32 + len(mail.SettingsHash{})
		for _, s := range entryTexts(&r.Entries[i]) {
			size += len(*s)
		}
	}
	return size
}

type encoder []byte

func (b encoder) number(n int64) encoder { return binary.AppendVarint(b, n) }

func (b encoder) text(s string) encoder {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (b encoder) entry(e *mail.Entry) encoder {
	b = append(b, byte(e.Stage), byte(e.Action))
	b = b.number(e.Duration.Microseconds()).number(int64(e.Reply.Code))
	for _, n := range e.Reply.Enhanced {
		b = b.number(int64(n))
	}
	for _, s := range entryTexts(e) {
		b = b.text(*s)
	}
	if e.Settings == nil {
		return append(b, 0)
	}
	hash := e.Settings.Hash()
	return append(append(b, byte(len(hash))), hash[:]...)
}

// decode fills r with what encode gave. Of settings there are the hashes, which
// known turns into what entries with the same settings share.
func decode(data []byte, r *Record, known interned) error {
	d := decoder{rest: data}
	if d.format = d.octet(); d.format != format && d.format != format1 {
		return errDamaged
	}
	r.Duration, r.Size = d.duration(), d.number()
	for _, s := range r.texts() {
		*s = d.text()
	}
	if n := d.count(); n > 0 {
		r.Recipients = make([]string, n)
	}
	for i := range r.Recipients {
		r.Recipients[i] = d.text()
	}
	if n := d.count(); n > 0 {
		r.Entries = make([]mail.Entry, n)
	}
	for i := range r.Entries {
		d.entry(&r.Entries[i], known)
	}
	if d.damaged || len(d.rest) > 0 {
		return errDamaged
	}
	if d.format == format1 && isAccepted(r.Outcome.Action) {
		if i := slices.IndexFunc(r.Entries, func(e mail.Entry) bool { return quarantines(&e) }); i >= 0 {
			r.Outcome.Action, r.Outcome.Handler = mail.ActionQuarantine.String(), r.Entries[i].Handler
		}
	}
	return nil
}

// decoder reads what an encoder wrote. After the first mistake it gives zeros.
type decoder struct {
	format  byte
	rest    []byte
	damaged bool
}

func (d *decoder) fail() {
	d.damaged = true
	d.rest = nil
}

func (d *decoder) octet() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) number() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) duration() time.Duration { return microseconds(d.number()) }

func (d *decoder) text() string { return string(d.bytes()) }

// bytes gives a text where it stands.
func (d *decoder) bytes() []byte {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > uint64(len(d.rest)-size) {
		d.fail()
		return nil
	}
	s := d.rest[size : size+int(n)]
	d.rest = d.rest[size+int(n):]
	return s
}

// hash reads the settings of an entry, which are the zero hash if it has none.
func (d *decoder) hash() (hash mail.SettingsHash) {
	if d.format == format1 {
		return hash
	}
	switch n := int(d.octet()); {
	case n == 0:
	case n != len(hash) || n > len(d.rest):
		d.fail()
	default:
		d.rest = d.rest[copy(hash[:], d.rest):]
	}
	return hash
}

// interned are settings by their hashes, so that many entries share them.
type interned map[mail.SettingsHash]*mail.Settings

func (known interned) of(hash mail.SettingsHash) *mail.Settings {
	if hash == (mail.SettingsHash{}) {
		return nil
	}
	s := known[hash]
	if s == nil {
		s = mail.StoredSettings(hash)
		known[hash] = s
	}
	return s
}

// count reads the length of a list, which cannot exceed the bytes that are left.
func (d *decoder) count() int64 {
	n := d.number()
	if n < 0 || n > int64(len(d.rest)) {
		d.fail()
		return 0
	}
	return n
}

func (d *decoder) entry(e *mail.Entry, known interned) {
	e.Stage, e.Action = mail.Stage(d.octet()), mail.Action(d.octet())
	e.Duration, e.Reply.Code = d.duration(), int(d.number())
	for i := range e.Reply.Enhanced {
		e.Reply.Enhanced[i] = int(d.number())
	}
	for _, s := range entryTexts(e) {
		*s = d.text()
	}
	e.Settings = known.of(d.hash())
}
