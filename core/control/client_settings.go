package control

import (
	"context"
	"net/http"

	"github.com/mox-like/mox-like/core/tuning"
)

// TunedDomains lists the domains that have settings in the database.
func (c *Client) TunedDomains(ctx context.Context, p Page) ([]string, string, error) {
	var list tunedList
	err := c.get(ctx, "/v1/settings", inPage(query(), p), &list)
	return list.Domains, list.Next, err
}

// DomainSettings lists what the database has for a domain.
func (c *Client) DomainSettings(ctx context.Context, domain string) ([]tuning.Setting, error) {
	var s domainSettings
	err := c.get(ctx, path("v1", "domains", domain, "settings", "stored"), nil, &s)
	return s.Settings, err
}

// EffectiveSettings gives what holds for a domain.
func (c *Client) EffectiveSettings(ctx context.Context, domain, handler string) ([]tuning.Effective, error) {
	var s effectiveSettings
	err := c.get(ctx, path("v1", "domains", domain, "settings"), query("handler", handler), &s)
	return s.Settings, err
}

// ChangeDomain changes the settings of a domain.
func (c *Client) ChangeDomain(ctx context.Context, domain string, changes []tuning.Change, note string) (*Report, error) {
	return c.tune(ctx, request{
		method: http.MethodPost, path: path("v1", "domains", domain, "settings", "changes"), body: settingChanges{changes, note},
	})
}

// RollbackDomain brings back what was.
func (c *Client) RollbackDomain(ctx context.Context, domain string, to int64) (*Report, error) {
	return c.tune(ctx, request{
		method: http.MethodPost, path: path("v1", "domains", domain, "settings", "rollback"), body: rollback{to},
	})
}

// tune sends a change that answers with a report, whether it is made or refused.
func (c *Client) tune(ctx context.Context, r request) (*Report, error) {
	report := new(Report)
	refused, err := c.ask(ctx, r, report)
	if err != nil {
		return refused, err
	}
	return report, nil
}

// DomainHistory lists what was changed.
func (c *Client) DomainHistory(ctx context.Context, domain string, p Page) ([]tuning.Revision, string, error) {
	var list revisionList
	err := c.get(ctx, path("v1", "domains", domain, "settings", "history"), inPage(query(), p), &list)
	return list.Revisions, list.Next, err
}

// ExportConfig gives the files with the settings merged in.
func (c *Client) ExportConfig(ctx context.Context) (map[string][]byte, error) {
	var e exported
	if err := c.get(ctx, "/v1/config/export", nil, &e); err != nil {
		return nil, err
	}
	files := make(map[string][]byte, len(e.Files))
	for _, f := range e.Files {
		files[f.Name] = []byte(f.Text)
	}
	return files, nil
}
