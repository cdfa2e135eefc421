// Package tuning keeps the settings of domains that are changed while the server
// runs: rows of (domain, handler, attribute, value) in the store, and the history
// of every change. It knows neither handlers nor what a value means; package core
// checks that before it has anything stored.
package tuning

import (
	"errors"
	"time"
)

// Template is the domain whose settings hold for every domain that lives here,
// where these have none of their own.
const Template = "*"

// Limits of what is stored. They are far above real settings and keep a mistaken
// program from filling the database.
const (
	// MaxValue bounds the text of a value, in bytes.
	MaxValue = 16 << 10
	// MaxChanges bounds how many changes a request has, and how many settings a
	// domain.
	MaxChanges = 500
	// MaxPage bounds how many entries a list has.
	MaxPage = 1000
)

// Key names a setting of a domain.
type Key struct {
	// Handler is the handler's name in the chain: its label, else its module's name.
	Handler string `json:"handler"`
	// Attribute is one of the handler's own or one that every handler has, such as
	// mode or enabled.
	Attribute string `json:"attribute"`
}

// Change is one of the changes of a request.
type Change struct {
	Key
	// Value is the text of an expression as the file would have it, such as "10m" in
	// its quotes; nil removes the setting.
	Value *string `json:"value"`
}

// Request asks for changes of one domain. They are made together or not at all.
type Request struct {
	// Domain is a domain that lives here, or Template.
	Domain string
	// Changes are at most one for each key.
	Changes []Change
	// Actor says who asks, such as "uid 0 (root) by command".
	Actor string
	// Note says why; it may be empty.
	Note string
	// At is when they are made; the zero Time means now.
	At time.Time
}

// Setting is a row as it is stored.
type Setting struct {
	Domain string `json:"domain"`
	Key
	// Value is the text of an expression; stars if it is a secret.
	Value   string    `json:"value"`
	Changed time.Time `json:"changed"`
	Actor   string    `json:"actor"`
	// InForce says that the server runs with it, or would if it ran. Problem says
	// why not, as when the file has no such handler any more.
	InForce bool   `json:"in_force"`
	Problem string `json:"problem,omitempty"`
}

// Effective is the value of an attribute that holds for a domain, and where it
// comes from.
type Effective struct {
	// Listener is the listener in whose chain the handler stands.
	Listener string `json:"listener"`
	Key
	// Value is as the file would have it: "" if the attribute is not set and has no
	// default, stars if it is a secret.
	Value string `json:"value"`
	// Source says whose value holds.
	Source Source `json:"source"`
	// Place is where it stands, as "file:line" or "database: domain example.org"; ""
	// for a default.
	Place string `json:"place,omitempty"`
}

// Source is a layer of settings.
type Source string

// The layers, from the weakest to the strongest.
const (
	FromDefault          Source = "default"           // the module's
	FromHandler          Source = "handler"           // the handler's block in the chain
	FromFileTemplate     Source = "file *"            // domain "*" of the file
	FromDatabaseTemplate Source = "database *"        // the Template of the database
	FromFile             Source = "file settings"     // the domain's settings block
	FromDatabase         Source = "database settings" // the domain's in the database
)

// Revision is one entry of the history.
type Revision struct {
	ID     int64     `json:"id"`
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor"`
	Domain string    `json:"domain"`
	Key
	// Before and After are the values; nil where there was or is none. Stars if they
	// are secret.
	Before *string `json:"before"`
	After  *string `json:"after"`
	// Note is the request's, or says to which revision it was rolled back.
	Note string `json:"note,omitempty"`
}

// ErrRequest is returned when a request makes no sense, whatever the
// configuration says.
var ErrRequest = errors.New("the request makes no sense")
