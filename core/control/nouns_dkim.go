package control

import (
	"slices"
	"time"
)

// The states of a DKIM key.
const (
	// DKIMInFile is a key in a file that the configuration names.
	DKIMInFile = "file"
	// DKIMPending is a key that is made and signs nothing yet.
	DKIMPending = "pending"
	// DKIMActive is a key that signs.
	DKIMActive = "active"
	// DKIMRetiring is a key that signs no more, and whose record must stay for mail
	// that is on its way.
	DKIMRetiring = "retiring"
	// DKIMRetired is a key whose private part is deleted.
	DKIMRetired = "retired"
)

// DKIMBlock is what a block dkim of a domain says.
type DKIMBlock struct {
	// Managed says that the server makes and keeps the keys; Overlap is how long an old
	// key's record must stay.
	Managed bool
	Overlap time.Duration
	// Selector and KeyFile, an absolute path, are those of a key in a file.
	Selector, KeyFile string
}

// DKIMDomain is a domain with its blocks dkim.
type DKIMDomain struct {
	Name   string
	Blocks []DKIMBlock
}

// NewDKIMKeys says which keys are made.
type NewDKIMKeys struct {
	// Algorithms are those of package dkimkey; none means all.
	Algorithms []string
	// Selector names the key; several ones have the algorithm behind it. "" has the
	// server choose.
	Selector string
}

// DKIMKey is a key of a domain, without its private part.
type DKIMKey struct {
	Domain   string `json:"domain"`
	Selector string `json:"selector"`
	// Algorithm is rsa-sha256 or ed25519-sha256; "" if the key cannot be read.
	Algorithm string `json:"algorithm,omitempty"`
	Bits      int    `json:"bits,omitempty"`
	State     string `json:"state" enum:"file,pending,active,retiring,retired"`
	// File is that of the private key, as long as there is one.
	File    string    `json:"file,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Since   time.Time `json:"since,omitzero" doc:"When the state began."`
	Until   time.Time `json:"until,omitzero" doc:"Until when the record of a retiring key must stay."`
	// Name and Value are those of the TXT record; the name is absolute, without the dot
	// at its end.
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	// Findings are what a check has found.
	Findings []DKIMFinding `json:"findings,omitempty"`
}

// DKIMUnknown is the code of a finding that the DNS could not be asked.
const DKIMUnknown = "unknown"

// DKIMFinding is something that a check has found.
type DKIMFinding struct {
	// Code is stable.
	Code string `json:"code" enum:"missing,differs,revoked,weak,syntax,testing,several,unknown,leftover,unreadable,exposed,unsigned,no-block"`
	Text string `json:"text"`
	// Wrong says that mail suffers.
	Wrong bool `json:"wrong"`
}

// DKIMReport tells how a domain stands.
type DKIMReport struct {
	Domain   string        `json:"domain"`
	Findings []DKIMFinding `json:"findings,omitempty"`
	Keys     []DKIMKey     `json:"keys"`
}

// Wrong tells whether something is wrong.
func (r *DKIMReport) Wrong() bool {
	return r.has(func(f DKIMFinding) bool { return f.Wrong })
}

// Unknown tells whether the DNS could not be asked for something.
func (r *DKIMReport) Unknown() bool {
	return r.has(func(f DKIMFinding) bool { return f.Code == DKIMUnknown })
}

func (r *DKIMReport) has(is func(DKIMFinding) bool) bool {
	for i := range r.Keys {
		if slices.ContainsFunc(r.Keys[i].Findings, is) {
			return true
		}
	}
	return slices.ContainsFunc(r.Findings, is)
}

// DKIMStep is what was done for the keys of a domain, and what is to be done next.
type DKIMStep struct {
	Domain string `json:"domain"`
	// Changed says that something was done; Waiting that the DNS does not show what it
	// must, and Unknown that it could not be asked for some of that.
	Changed bool `json:"changed"`
	Waiting bool `json:"waiting"`
	Unknown bool `json:"unknown,omitempty"`
	// Done and Next are sentences for people.
	Done []string `json:"done"`
	Next []string `json:"next"`
	// Publish are the keys whose records are to be published, Remove those whose
	// records may go.
	Publish []DKIMKey `json:"publish,omitempty"`
	Remove  []DKIMKey `json:"remove,omitempty"`
}
