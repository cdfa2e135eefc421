// Package lint checks configurations: what the core and the modules refuse, and
// rules of its own about what runs and should not, which reason about the whole
// file. Each finding has a code, and each code a page that explains it.
//
// It reads and writes nothing beside what the check of the core does, and asks
// nothing of the network.
package lint

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
)

// Report is what was found about one configuration.
type Report struct {
	// File is the main file. Unread says that it could not be read: the one error of
	// Diagnostics says why.
	File   string
	Unread bool
	// Diagnostics are in the order of the file, without those that are silenced.
	Diagnostics config.Diagnostics
	// Silenced are those that a comment excuses.
	Silenced []Silenced
	// Sources are the texts of the files by name.
	Sources map[string][]byte
	// NotChecked says in one line what the check did not look at.
	NotChecked string
}

// Silenced is a finding that a comment in the file excuses.
type Silenced struct {
	config.Diagnostic

	// Reason is what the comment gives.
	Reason string
}

// Unreadable is the report of a file that cannot be read, so that no program takes
// the absence of findings for a good configuration.
func Unreadable(file string, err error) *Report {
	r := &Report{File: file, Unread: true, NotChecked: "Not checked: anything, since the file cannot be read."}
	r.Diagnostics.Errorf(hcl.Range{Filename: file}, "config/no-file", "%v", err)
	return r
}

// Check checks a configuration. With o.Offline it looks at the text alone.
func Check(o core.Options, c *Catalogue) *Report {
	plan, ds, sources := core.Examine(o)
	r := &Report{File: o.ConfigFile, Sources: sources, NotChecked: notChecked(o, plan)}
	if plan != nil {
		f := &finder{plan: plan, offline: o.Offline}
		for _, check := range rules {
			check(f)
		}
		ds.Append(f.ds)
	}
	whole := plan != nil && plan.Whole && !ds.HasErrors() && !o.Offline
	r.Diagnostics, r.Silenced = silence(ds.Unique(), sources, c, whole)
	return r
}

// notChecked says what the level leaves out.
func notChecked(o core.Options, plan *core.Plan) string {
	const world = "the DNS, certificates as others see them, daemons"
	if !o.Offline {
		return "Not checked: " + world + "."
	}
	text := "Not checked (--offline): what env() and file() give, this machine and its files, " + world
	if plan == nil || len(plan.Unasked) == 0 {
		return text + "."
	}
	var headers []string
	for _, block := range plan.Unasked {
		place := fmt.Sprintf("%s (line %d)", block.Header(), block.DefRange.Start.Line)
		if len(headers) == maxUnasked {
			headers = append(headers, fmt.Sprintf("%d more", len(plan.Unasked)-maxUnasked))
			break
		}
		headers = append(headers, place)
	}
	return text + "; and so not how the settings fit together of " + strings.Join(headers, ", ") + "."
}

// maxUnasked is how many blocks the line about what was not checked names.
const maxUnasked = 5
