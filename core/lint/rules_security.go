package lint

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/config"
	"github.com/mox-like/mox-like/core/mail"
)

// noRateLimit finds listeners that the whole internet may ask as often as it likes.
func noRateLimit(f *finder) {
	for _, l := range f.listeners() {
		if _, world := ports(l); !world || !takesMail(l) || has(l, "ratelimit") {
			continue
		}
		f.ds.Warnf(l.Block.DefRange, "security/no-rate-limit", "%s is open to the internet, and nothing bounds how much a client may send", named(l)).
			WithDetail("Write into its chain:\nratelimit {\n  key   = \"ip\"\n  limit = \"100/1h\"\n}")
	}
}

// noBruteforce finds listeners at which the whole internet may guess passwords.
func noBruteforce(f *finder) {
	for _, l := range f.listeners() {
		if _, world := ports(l); !world || !takesLogins(l) || has(l, "bruteforce") {
			continue
		}
		f.ds.Warnf(l.Block.DefRange, "security/no-bruteforce", "anybody on the internet can guess passwords at %s without end", named(l)).
			WithDetail("Write bruteforce {} in front of password in its chain.")
	}
}

// noSenderLogin finds listeners at which users may send as anybody.
func noSenderLogin(f *finder) {
	for _, l := range f.listeners() {
		if takesMail(l) && takesLogins(l) && !has(l, "sender_login") {
			f.ds.Warnf(l.Block.DefRange, "security/no-sender-login", "who logs in at %s may send as anybody", named(l)).
				WithDetail("Write sender_login {} into its chain, behind what checks the login.")
		}
	}
}

// loginAt25 finds logins at the port of strangers.
func loginAt25(f *finder) {
	for _, l := range f.listeners() {
		if list, world := ports(l); world && takesMail(l) && takesLogins(l) && slices.Contains(list, "25") {
			f.ds.Warnf(l.Block.Place("auth"), "security/login-at-25", "%s lets users log in at port 25, where every bot guesses passwords", named(l)).
				WithDetail("Set auth = \"off\" here, and write a listener for users with port 465 and tls = \"implicit\".")
		}
	}
}

// optionalTLS finds listeners for users at which somebody in between can take
// STARTTLS out.
func optionalTLS(f *finder) {
	for _, l := range f.listeners() {
		auth, _ := setting[string](l.Module, "auth")
		if tls, _ := setting[string](l.Module, "tls"); tls == "starttls" && auth == "required" {
			f.ds.Warnf(l.Block.Place("tls"), "security/optional-tls", "%s is for users, and offers TLS without insisting on it", named(l)).
				WithDetail("Somebody in between can hide the offer. Set tls = \"implicit\" for port 465, or tls = \"required\" for port 587.")
		}
	}
}

// secondFactorBypass finds listeners at which a password is enough although others
// ask for a second factor.
func secondFactorBypass(f *finder) {
	var asks *core.PlannedHandler
	for _, l := range f.listeners() {
		c := chain{handlers: l.Chain}
		if h := c.find("totp"); h != nil && asks == nil && takesLogins(l) {
			asks = h
		}
	}
	if asks == nil {
		return
	}
	if enforce, _ := setting[string](asks.Module, "enforce"); enforce == "off" {
		return
	}
	for _, l := range f.listeners() {
		if takesLogins(l) && !has(l, "totp") {
			f.ds.Warnf(l.Block.DefRange, "security/second-factor-bypass", "a password alone is enough at %s, also for who has a second factor", named(l)).
				WithDetail("Write totp {} behind password in its chain.").
				WithRelated(asks.Block.DefRange, "elsewhere a second factor is asked for")
		}
	}
}

// monitoredFactor finds second factors whose verdict does not count.
func monitoredFactor(f *finder) {
	f.each(func(_ chain, h *core.PlannedHandler) {
		if h.Info.Name() == "totp" && h.Monitor {
			f.ds.Warnf(h.Block.Place("mode"), "security/monitored-factor", "%s asks for a second factor, and lets in who has none", h.Name).
				WithDetail("Remove mode, or leave the handler out until it shall count.")
		}
	})
}

// rejectsPermerror finds SPF checks that refuse mail for the mistakes of others.
func rejectsPermerror(f *finder) {
	f.each(func(_ chain, h *core.PlannedHandler) {
		if h.Info.Name() != "spf" {
			return
		}
		if what, _ := setting[string](h.Module, "permerror"); what == "reject" {
			f.ds.Warnf(h.Block.Place("permerror"), "security/spf-permerror", "mail is refused because the sender's SPF record has a mistake").
				WithDetail("Many honest domains have one. Set permerror = \"accept\" or \"tag\".")
		}
	})
}

// exemptions are the settings that excuse networks from a handler.
var exemptions = []string{"except", "exempt", "allow"}

// everybodyExempt finds exemptions that hold for everybody.
func everybodyExempt(f *finder) {
	f.each(func(_ chain, h *core.PlannedHandler) {
		for _, name := range exemptions {
			if !set(h.Block, name) {
				continue
			}
			networks, _ := setting[[]netip.Prefix](h.Module, name)
			if i, all := everywhere(networks); all {
				f.ds.Warnf(h.Block.Place(fmt.Sprintf("%s[%d]", name, i)), "security/everybody-exempt", "%s exempts everybody in %s, and does nothing for them", h.Name, networks[i]).
					WithDetail("Name the networks of your own, or switch the handler off by enabled = false.")
			}
		}
	})
}

// proxyFromAnywhere finds listeners that believe everybody about who the client is.
func proxyFromAnywhere(f *finder) {
	for _, l := range f.listeners() {
		networks, _ := setting[[]netip.Prefix](l.Module, "proxy_protocol.from")
		if i, all := everywhere(networks); all {
			f.ds.Warnf(l.Block.Place(fmt.Sprintf("proxy_protocol.from[%d]", i)), "security/proxy-from-anywhere", "everybody in %s may say at %s which address they come from", networks[i], named(l)).
				WithDetail("Name the addresses of your proxies: whoever is listed here passes blocks and limits by another address.")
		}
	}
}

// blocksProxy finds blocks that hold for a proxy in front.
func blocksProxy(f *finder) {
	for _, l := range f.listeners() {
		proxies, _ := setting[[]netip.Prefix](l.Module, "proxy_protocol.from")
		for i := range l.Chain {
			h := &l.Chain[i]
			if h.Info.Name() != "blocklist" {
				continue
			}
			blocked, _ := setting[[]netip.Prefix](h.Module, "networks")
			for j, network := range blocked {
				if k := slices.IndexFunc(proxies, network.Overlaps); k >= 0 {
					f.ds.Warnf(h.Block.Place(fmt.Sprintf("networks[%d]", j)), "security/blocks-proxy", "%s blocks %s, where the proxy of %s is", h.Name, network, named(l)).
						WithDetail("All that comes through it without a header of its own is refused, such as its health checks. Take the proxy out.").
						WithRelated(l.Block.Place(fmt.Sprintf("proxy_protocol.from[%d]", k)), "the proxy stands here")
				}
			}
		}
	}
}

// openSecret finds secrets in the text of a file that every user of the machine can
// read.
func openSecret(f *finder) {
	if f.offline {
		return
	}
	open := make(map[string]bool)
	look := func(m core.Module, block *config.Block) {
		for name, a := range block.Body.Attributes {
			v, ok := field(reflect.ValueOf(m), name)
			if !ok || v.Type() != reflect.TypeFor[mail.Secret]() || len(a.Expr.Variables()) > 0 || calls(a.Expr) {
				continue
			}
			file := a.SrcRange.Filename
			if _, known := open[file]; !known {
				info, err := os.Stat(file)
				open[file] = err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0
			}
			if open[file] {
				f.ds.Warnf(a.NameRange, "security/open-secret", "every user of this machine can read this secret in %s", file).
					WithDetail("Take it from the environment by env(\"NAME\") or from a file by file(\"NAME\"), or run: chmod o-r %s", file)
			}
		}
	}
	f.each(func(_ chain, h *core.PlannedHandler) { look(h.Module, h.Block) })
	for _, l := range f.listeners() {
		look(l.Module, l.Block)
	}
}

// calls tells whether an expression calls a function.
func calls(e hclsyntax.Expression) bool {
	found := false
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		_, call := n.(*hclsyntax.FunctionCallExpr)
		found = found || call
		return nil
	})
	return found
}
