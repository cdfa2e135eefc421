package lint

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// The modules that have whole messages examined, and those that judge by little.
var (
	scanners = []string{"clamav", "spamassassin", "rspamd"}
	cheap    = []string{"dmarc", "attachments"}
)

// scannerFirst finds scanners in front of what costs next to nothing and may refuse
// the message.
func scannerFirst(f *finder) {
	seen := make(map[core.Module]bool)
	for _, l := range f.listeners() {
		for _, c := range chains(l) {
			for i := range c.handlers {
				h := &c.handlers[i]
				if !slices.Contains(scanners, h.Info.Name()) || h.Group > 0 || seen[h.Module] {
					continue
				}
				for j := range c.handlers[i+1:] {
					later := &c.handlers[i+1+j]
					if slices.Contains(cheap, later.Info.Name()) && later.Group == 0 {
						seen[h.Module] = true
						f.ds.Warnf(h.Block.DefRange, "order/scanner-first", "%s scans every message before %s, which costs little, can refuse it", h.Name, later.Name).
							WithDetail("Move %s behind %s.", h.Name, later.Name).
							WithRelated(later.Block.DefRange, "%s stands here", later.Name)
						break
					}
				}
			}
		}
	}
}

// once are the modules that find the same when they are asked again.
var once = append([]string{"spf", "dkim_verify", "dmarc", "arc_verify", "attachments", "rdns", "dnsbl", "sender_login", "authres", "totp", "password"}, scanners...)

// twice finds work that is done twice.
func twice(f *finder) {
	seen := make(map[core.Module]bool)
	for _, l := range f.listeners() {
		for _, c := range chains(l) {
			for i := range c.handlers {
				h := &c.handlers[i]
				if h.Conditional || !slices.Contains(once, h.Info.Name()) {
					continue
				}
				for j := range c.handlers[:i] {
					first := &c.handlers[j]
					if first.Info.ID == h.Info.ID && first.Stages == h.Stages && !first.Conditional && !seen[h.Module] && sameSettings(first.Module, h.Module) {
						seen[h.Module] = true
						f.ds.Warnf(h.Block.DefRange, "order/twice", "%s does again what %s has done", h.Name, first.Name).
							WithDetail("Remove one of the two.").
							WithRelated(first.Block.DefRange, "the first one stands here")
					}
				}
			}
		}
	}
}

// idleGreylist finds greylisting that neither defers nor learns.
func idleGreylist(f *finder) {
	f.each(func(c chain, h *core.PlannedHandler) {
		if h.Info.Name() != "greylist" {
			return
		}
		auth, _ := setting[string](c.listener.Module, "auth")
		learns, ok := setting[bool](h.Module, "skip_correspondents")
		if auth == "required" && ok && !learns {
			f.ds.Warnf(h.Block.DefRange, "order/idle-greylist", "%s has nothing to do at %s: who has logged in is never deferred", h.Name, named(c.listener)).
				WithDetail("Remove it, or set skip_correspondents = true, so that it learns to whom users write.")
		}
	})
}

// scoring are the modules that give points.
var scoring = []string{"rdns", "dnsbl", "spamassassin", "rspamd", "http", "exec", "milter"}

// scoreOfNothing finds a sum to which nobody adds.
func scoreOfNothing(f *finder) {
	for _, l := range f.listeners() {
		own := chain{handlers: l.Chain}
		for _, c := range chains(l) {
			h := c.find("score")
			if h == nil || c.domain != "" && h.Own == own.own("score") || slices.ContainsFunc(c.handlers, mayScore) {
				continue
			}
			f.ds.Warnf(h.Block.DefRange, "order/score-of-nothing", "%s judges by points, and no handler of this chain gives any", h.Name).
				WithDetail("Write one in front of it that does, such as rdns or spamassassin, or remove it.")
		}
	}
}

// mayScore tells whether a handler may give points; a module that is not known here
// may.
func mayScore(h core.PlannedHandler) bool {
	return slices.Contains(scoring, h.Info.Name()) || !slices.Contains(silent, h.Info.Name())
}

// silent are the modules that never give points.
var silent = []string{
	"score", "blocklist", "ratelimit", "bruteforce", "password", "totp", "sender_login", "spf", "dkim_verify", "dkim_sign", "dmarc",
	"arc_verify", "arc_seal", "greylist", "attachments", "clamav", "headers", "authres", "quarantine", "verdict", "deliver",
}

// own gives the block of a module in the chain, nil without one.
func (c *chain) own(module string) *config.Block {
	if h := c.find(module); h != nil {
		return h.Own
	}
	return nil
}

// patience is how long a client waits for the answer to a message (RFC 5321 section
// 4.5.3.2.6).
const patience = 10 * time.Minute

// timeouts finds chains that may take longer for a message than there is time.
func timeouts(f *finder) {
	for _, l := range f.listeners() {
		limit, ok := setting[time.Duration](l.Module, "timeouts.stage")
		if !ok || limit > patience {
			limit = patience
		}
		for _, c := range chains(l) {
			sum, longest := dataTime(c.handlers)
			if sum <= limit || longest == nil || c.domain != "" && !slices.ContainsFunc(c.handlers, func(h core.PlannedHandler) bool { return h.Block != h.Own }) {
				continue
			}
			f.ds.Warnf(longest.Block.Place("timeout"), "limits/timeouts", "the handlers may take %s for a message, and %s gives them %s", span(sum), named(l), span(limit)).
				WithDetail("The last ones would be cut off, and the client told to come back with the same message. Give handlers less by timeout, or the stage more by timeouts { stage } of the listener, up to the %s that clients wait.", span(patience)).
				WithRelated(l.Block.Place("timeouts.stage"), "this listener")
			break
		}
	}
}

// dataTime sums up what the handlers may take for a message, and gives the one that
// may take longest. Those in parallel count as the slowest of them.
func dataTime(handlers []core.PlannedHandler) (sum time.Duration, longest *core.PlannedHandler) {
	groups := make(map[int]time.Duration)
	for i := range handlers {
		h := &handlers[i]
		if !h.Stages.Has(mail.StageData) || h.Timeout == 0 {
			continue
		}
		if longest == nil || h.Timeout > longest.Timeout {
			longest = h
		}
		if h.Group == 0 {
			sum += h.Timeout
		} else {
			groups[h.Group] = max(groups[h.Group], h.Timeout)
		}
	}
	for _, slowest := range groups {
		sum += slowest
	}
	return sum, longest
}

// span writes a time as the file does: 5m, 90s.
func span(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%gs", d.Seconds())
}

// unscanned finds messages that are let in and are too large for the virus scanner,
// where the file does not say that this is meant.
func unscanned(f *finder) {
	f.each(func(c chain, h *core.PlannedHandler) {
		if h.Info.Name() != "clamav" {
			return
		}
		scans, ok := setting[config.Size](h.Module, "max_size")
		takes, limited := setting[config.Size](c.listener.Module, "max_message_size")
		tooLarge, _ := setting[string](h.Module, "too_large")
		if !ok || !limited || scans >= takes || tooLarge != "accept" || set(h.Block, "too_large") {
			return
		}
		f.ds.Warnf(h.Block.Place("max_size"), "limits/unscanned", "%s takes messages of up to %s, and %s lets pass unscanned what has more than %s", named(c.listener), takes, h.Name, scans).
			WithDetail("Raise max_size, or say by too_large what shall become of them; too_large = \"accept\" says that it is meant.").
			WithRelated(c.listener.Block.Place("max_message_size"), "the limit of the listener")
	})
}

// portTLS finds listeners whose TLS is not the one that clients expect at the port.
func portTLS(f *finder) {
	for _, l := range f.listeners() {
		tls, ok := setting[string](l.Module, "tls")
		if !ok || l.Info.Name() != "smtp" {
			continue
		}
		list, _ := ports(l)
		for _, port := range list {
			switch {
			case port == "465" && tls != "implicit":
				f.ds.Warnf(l.Block.Place("tls"), "listener/port-tls", "clients expect TLS from the first byte on port 465").
					WithDetail("Set tls = \"implicit\", or take port 587.")
			case (port == "587" || port == "25") && tls == "implicit":
				f.ds.Warnf(l.Block.Place("tls"), "listener/port-tls", "clients begin in the clear on port %s, and would get no greeting", port).
					WithDetail("Set tls = \"required\" for users or tls = \"starttls\" for strangers, or take port 465.")
			}
		}
	}
}

// maybeNoTarget finds chains all of whose targets have a condition.
func maybeNoTarget(f *finder) {
	for _, l := range f.listeners() {
		if !takesMail(l) {
			continue
		}
		seen := make(map[*config.Block]bool)
		for _, c := range chains(l) {
			var target *core.PlannedHandler
			sure := false
			for i := range c.handlers {
				if h := &c.handlers[i]; h.Info.Target {
					target, sure = h, sure || !h.Conditional
				}
			}
			if target == nil || sure || seen[target.Own] {
				continue
			}
			seen[target.Own] = true
			f.ds.Warnf(target.Block.Place("when"), "chain/maybe-no-target", "where this is false, no target is left and the recipient is refused").
				WithDetail("Write a target without when behind it, or refuse such mail by a handler that says why.")
		}
	}
}

// domainsDiffer finds listeners at which one message to two domains cannot be judged
// in one go, since what acts on messages differs.
func domainsDiffer(f *finder) {
	for _, l := range f.listeners() {
		if !takesMail(l) || len(f.plan.Domains.All()) < 2 {
			continue
		}
		var names []string
		var places []*config.Block
		for _, domain := range slices.Sorted(maps.Keys(l.Domains)) {
			if domain == "*" {
				continue
			}
			if place := f.differs(l, domain); place != nil {
				names, places = append(names, domain), append(places, place)
			}
		}
		if len(names) == 0 {
			continue
		}
		shown := names
		if len(shown) > maxNamed {
			shown = append(slices.Clone(names[:maxNamed]), fmt.Sprintf("%d more", len(names)-maxNamed))
		}
		d := f.ds.Warnf(places[0].DefRange, "domain/differs", "what judges messages at %s is another for %s", named(l), strings.Join(shown, ", ")).
			WithDetail("A message to recipients there and elsewhere comes in twice: the second recipient is deferred by 452, and the client sends the message to it again. If that is meant, silence this with the reason.")
		for _, place := range places[1:min(len(places), maxNamed)] {
			d.WithRelated(place.DefRange, "and here")
		}
	}
}

// maxNamed is how many domains a sentence names.
const maxNamed = 5

// differs gives the block by which the handlers at the data stage are others for a
// domain than those that hold for most, nil if they are the same.
func (f *finder) differs(l *core.PlannedListener, domain string) *config.Block {
	base := l.Chain
	if template, ok := l.Domains["*"]; ok {
		base = template
	}
	atData := func(list []core.PlannedHandler) []core.PlannedHandler {
		return slices.DeleteFunc(slices.Clone(list), func(h core.PlannedHandler) bool {
			return !h.Stages.Has(mail.StageData) || h.Info.Name() == "greylist" // only notes then what became of the message
		})
	}
	same := func(a, b core.PlannedHandler) bool {
		return a.Module == b.Module || a.Info.ID == b.Info.ID && a.Name == b.Name && a.Stages == b.Stages && a.Timeout == b.Timeout &&
			a.Monitor == b.Monitor && a.Conditional == b.Conditional && sameSettings(a.Module, b.Module)
	}
	mine, others := atData(l.Domains[domain]), atData(base)
	if slices.EqualFunc(mine, others, same) {
		return nil
	}
	d, ok := f.plan.Domains.Find(domain)
	if !ok {
		return nil
	}
	for _, c := range d.Chain {
		if c.Label(0) == l.Name {
			return c
		}
	}
	for _, s := range d.Settings {
		if slices.ContainsFunc(mine, func(h core.PlannedHandler) bool { return h.Name == s.Label(0) }) {
			return s
		}
	}
	return d.Block()
}

// keysWithoutSigner finds keys by which nothing signs.
func keysWithoutSigner(f *finder) {
	if !f.plan.Whole {
		return
	}
	for i := range f.plan.Listeners {
		for _, c := range chains(&f.plan.Listeners[i]) {
			if slices.ContainsFunc(c.handlers, func(h core.PlannedHandler) bool { return h.Info.Signs }) {
				return
			}
		}
	}
	for _, d := range f.plan.Domains.All() {
		for _, block := range f.plan.Parts[d.Name] {
			if block.Type == "dkim" {
				f.ds.Warnf(block.DefRange, "dkim/never-signs", "%s has keys, and no chain signs mail with them", d.Name).
					WithDetail("Write dkim_sign {} into the chain of the listener by which users send, behind whatever changes the message.")
				return
			}
		}
	}
}
