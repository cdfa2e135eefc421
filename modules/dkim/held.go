package dkim

import (
	"errors"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core/control"
	"github.com/mox-like/mox-like/core/logkey"
)

// heldKey is a key that signs. Its file is read when a message is first to be signed:
// to parse the keys of 10,000 domains at the start would take seconds.
type heldKey struct {
	domain, selector, path string
	ready                  atomic.Pointer[domainKey]
	failed                 atomic.Bool // the last time
}

// held gives those of keys that sign.
func (s *Service) held(rows []*row) map[string][]*heldKey {
	all := make(map[string][]*heldKey)
	for _, r := range rows {
		if r.state == control.DKIMActive {
			all[r.domain] = append(all[r.domain], &heldKey{domain: r.domain, selector: r.selector, path: s.file(r)})
		}
	}
	return all
}

// get gives the key, nil if it cannot be read now. The first failure is logged: mail
// goes on without its signature.
func (h *heldKey) get(log *zap.Logger) *domainKey {
	if key := h.ready.Load(); key != nil {
		return key
	}
	private, err := loadOwn(h.path)
	if _, ok := errors.AsType[*exposedError](err); ok {
		left := mendMode(h.path, 0, 0o600)
		log.Warn("others could get at a DKIM key; if somebody may have read it, run mox-like dkim rotate",
			zap.String(logkey.Domain, h.domain), zap.Error(err), zap.Bool("mended", left == nil))
		private, err = loadPrivateKey(h.path)
	}
	if err != nil {
		if !h.failed.Swap(true) {
			log.Error("a DKIM key cannot be read, and does not sign: restore its file from a backup, or run mox-like dkim rotate",
				zap.String(logkey.Domain, h.domain), zap.Error(err))
		}
		return nil
	}
	h.failed.Store(false)
	ascii, _ := asciiName(h.domain)
	key := &domainKey{domain: h.domain, ascii: ascii, selector: h.selector, path: h.path, private: private}
	h.ready.Store(key) // two at once read the same
	return key
}

// active gives the keys that sign for a domain, as far as they can be read.
func (s *Service) active(domain string) []*domainKey {
	var keys []*domainKey
	for _, h := range (*s.ready.Load())[domain] {
		if key := h.get(s.log); key != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// signs tells whether a key is in use for a domain.
func (s *Service) signs(domain string) bool { return len((*s.ready.Load())[domain]) > 0 }
