package dns

import (
	"errors"
	"strings"
)

// The errors of look-ups, to be compared with errors.Is.
var (
	// ErrNotFound is returned when the name does not exist or has no record of the
	// type: a void look-up in the words of RFC 7208.
	ErrNotFound = errors.New("no such record")
	// ErrTemporary is returned when no server gave an answer that can be used: the
	// same question may be answered later.
	ErrTemporary = errors.New("temporary failure")
	// ErrBadName is returned for a name that the DNS cannot have.
	ErrBadName = errors.New("not a domain name")
)

// Error is what every look-up fails with. It is shared between callers and not
// to be changed.
type Error struct {
	// Name and Type are what was asked.
	Name string
	Type Type
	// Server is who was asked last, "" if nobody was.
	Server string
	// Kind is ErrNotFound, ErrTemporary or ErrBadName.
	Kind error
	// NXDomain tells that the name does not exist at all, so that no other type of
	// it needs to be asked.
	NXDomain bool
	// Cause says more; it may be nil.
	Cause error
}

// Error says what was asked, of whom, and what is wrong.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("look up " + e.Type.String() + " of " + printableName(e.Name) + ": ")
	temporary := errors.Is(e.Kind, ErrTemporary)
	if temporary && e.Server != "" {
		b.WriteString("server " + e.Server + ": ")
	}
	switch {
	case temporary && e.Cause != nil:
		b.WriteString(e.Cause.Error())
	case e.NXDomain:
		b.WriteString("no such name")
	case e.Cause != nil:
		b.WriteString(e.Kind.Error() + ": " + e.Cause.Error())
	default:
		b.WriteString(e.Kind.Error())
	}
	return b.String()
}

// Unwrap gives the kind and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// Temporary tells whether an error may be gone at the next try.
func Temporary(err error) bool { return errors.Is(err, ErrTemporary) }

// NoName tells whether an error says that the name itself does not exist.
func NoName(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.NXDomain
}
