package mailbox

import (
	"context"

	"github.com/emersion/go-imap/v2"
)

// ChangeKind tells what a Change is about.
type ChangeKind uint8

// The kinds of change.
const (
	ChangeExpunge  ChangeKind = iota // the message SeqNum is gone, those after it move up
	ChangeExists                     // there are SeqNum messages now
	ChangeKeywords                   // Flags are those defined in the mailbox now
	ChangeFlags                      // the message SeqNum has other flags
)

// Change is one thing that a session must be told, in the numbering that holds
// at this moment: after the changes before it.
type Change struct {
	Kind   ChangeKind
	SeqNum uint32
	UID    imap.UID
	// Flags belong to the view and must not be changed.
	Flags  []imap.Flag
	ModSeq uint64
}

// Poll brings the view up to date and calls each for every change, in order:
// expunges, the number of messages, flags. It costs nothing when there is none.
// Without allowExpunge messages that are gone keep their numbers until a later
// Poll. Changes of flags by this view's own Store are not told again. A mailbox
// that was removed meanwhile is ErrGone. If each fails, Poll ends with its
// error and the view is of no more use.
func (v *View) Poll(ctx context.Context, allowExpunge bool, each func(Change) error) error {
	if !v.loaded && v.watch.modSeq.Load() <= v.modSeq {
		return nil
	}
	if err := v.sync(ctx); err != nil {
		return err
	}
	if allowExpunge && v.gone > 0 {
		if err := v.tellExpunges(each); err != nil {
			return err
		}
	}
	if v.told < len(v.entries) {
		v.told = len(v.entries)
		if err := each(Change{Kind: ChangeExists, SeqNum: uint32(v.told)}); err != nil {
			return err
		}
	}
	if v.toldKeys < len(v.keywords) {
		v.toldKeys = len(v.keywords)
		if err := each(Change{Kind: ChangeKeywords, Flags: v.keywords.defined()}); err != nil {
			return err
		}
	}
	return v.tellFlags(each)
}

// tellExpunges takes the entries that are gone out of the numbering.
func (v *View) tellExpunges(each func(Change) error) error {
	kept := 0
	removed := 0
	for i, e := range v.entries {
		if !e.gone {
			v.entries[kept] = e
			kept++
			continue
		}
		if i < v.told {
			removed++
			if err := each(Change{Kind: ChangeExpunge, SeqNum: uint32(kept + 1), UID: imap.UID(e.uid)}); err != nil {
				return err
			}
		}
	}
	v.entries = v.entries[:kept]
	v.told -= removed
	v.gone = 0
	return nil
}

func (v *View) tellFlags(each func(Change) error) error {
	for i := 0; v.dirty > 0 && i < v.told; i++ {
		if e := &v.entries[i]; e.dirty {
			v.clean(e)
			if err := each(v.change(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// change tells the flags of an entry.
func (v *View) change(i int) Change {
	e := &v.entries[i]
	return Change{Kind: ChangeFlags, SeqNum: uint32(i + 1), UID: imap.UID(e.uid), Flags: v.list(e.flags), ModSeq: uint64(e.modSeq)}
}

// clean notes that the client knows the flags of an entry.
func (v *View) clean(e *entry) {
	if e.dirty {
		e.dirty = false
		v.dirty--
	}
}
