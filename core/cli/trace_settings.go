package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/mail"
	"github.com/mox-like/mox-like/core/trace"
	"github.com/mox-like/mox-like/core/tuning"
)

// The values of --settings.
const (
	settingsNone    = "none"
	settingsChanged = "changed" // those that are not defaults
	settingsAll     = "all"
)

// explainer puts the settings into records that it is given without them.
type explainer struct {
	ops   control.Traces
	mode  string
	known map[string][]mail.Setting // by hash; nil for those that are not kept
}

// explained gives the record with the settings that are to be shown. The record
// itself stays as it is.
func (e *explainer) explained(ctx context.Context, r *trace.Record) (*trace.Record, error) {
	out := *r
	out.Settings = nil
	if e.mode == settingsNone {
		return &out, nil
	}
	maps.Copy(e.known, r.Settings)
	for _, entry := range r.Entries {
		hash := entry.Settings.Hash().String()
		if hash == "" {
			continue
		}
		list, ok := e.known[hash]
		if !ok {
			var err error
			if list, err = e.ops.TraceSettings(ctx, hash); err != nil && !errors.Is(err, control.ErrNotFound) {
				return nil, err
			}
			e.known[hash] = list
		}
		if list == nil {
			continue
		}
		if out.Settings == nil {
			out.Settings = make(map[string][]mail.Setting)
		}
		out.Settings[hash] = e.chosen(list)
	}
	return &out, nil
}

// chosen gives those that are to be shown.
func (e *explainer) chosen(list []mail.Setting) []mail.Setting {
	if e.mode == settingsAll {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(s mail.Setting) bool { return s.Source == string(tuning.FromDefault) })
}

// settingsOf are the settings of one handler, ready to be printed.
type settingsOf struct {
	handler string
	lines   [][2]string // the setting, and where it comes from
}

// settings writes what was in force when the handlers decided: each handler once,
// twice if its settings changed between.
func (p *tracePrinter) settings(b *bytes.Buffer, r *trace.Record) {
	shown, plain, lost := p.settingsOf(r)
	if len(shown)+len(plain)+len(lost) == 0 {
		return
	}
	b.WriteString("  settings then in force\n")
	var handler, setting int
	for _, s := range shown {
		handler = max(handler, min(utf8.RuneCountInString(s.handler), maxHandlerWidth))
		for _, l := range s.lines {
			setting = max(setting, min(utf8.RuneCountInString(l[0]), maxReasonWidth))
		}
	}
	for _, s := range shown {
		for i, l := range s.lines {
			name := s.handler
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(b, "    %-*s  %-*s  %s\n", handler, name, setting, l[0], p.paint(dim, l[1]))
		}
	}
	if len(plain) > 0 {
		fmt.Fprintf(b, "    all as by default: %s\n", strings.Join(plain, ", "))
	}
	if len(lost) > 0 {
		fmt.Fprintf(b, "    not kept any more: %s\n", strings.Join(lost, ", "))
	}
}

// settingsOf gives the handlers with something to be shown, those without, and
// those whose settings are gone.
func (p *tracePrinter) settingsOf(r *trace.Record) (shown []settingsOf, plain, lost []string) {
	type key struct {
		handler string
		hash    mail.SettingsHash
	}
	done := make(map[key]bool)
	for i := range r.Entries {
		e := &r.Entries[i]
		k := key{e.Handler, e.Settings.Hash()}
		if done[k] || k.hash == (mail.SettingsHash{}) {
			continue
		}
		done[k] = true
		one := settingsOf{handler: harmless(e.Handler)}
		list, ok := r.Settings[k.hash.String()]
		for _, s := range list {
			one.lines = append(one.lines, [2]string{settingText(s), p.sourceText(s)})
		}
		switch {
		case !ok:
			lost = append(lost, one.handler)
		case len(list) == 0:
			plain = append(plain, one.handler)
		default:
			shown = append(shown, one)
		}
	}
	return shown, plain, lost
}

// settingText gives a setting as the file has it, in one line.
func settingText(s mail.Setting) string {
	if s.Value == "" {
		return harmless(s.Attribute)
	}
	return harmless(s.Attribute + " = " + strings.Join(strings.Fields(s.Value), " "))
}

// sourceText says where a setting comes from.
func (p *tracePrinter) sourceText(s mail.Setting) string {
	text := harmless(s.Place)
	if text == "" {
		text = harmless(s.Source)
	}
	if s.Since.IsZero() {
		return text
	}
	return text + ", set " + s.Since.In(p.timeZone()).Format(time.DateTime)
}
