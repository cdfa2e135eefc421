package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/mox-like/mox-like/core/tuning"
)

const tagSettings = "settings"

type domainList struct {
	Domains []Domain `json:"domains"`
}

type tunedList struct {
	Domains []string `json:"domains"`
	Next    string   `json:"next,omitempty"`
}

type domainSettings struct {
	Settings []tuning.Setting `json:"settings"`
}

type effectiveSettings struct {
	Settings []tuning.Effective `json:"settings"`
}

// settingChanges is the body of a request that changes settings by expressions.
type settingChanges struct {
	Changes []tuning.Change `json:"changes" minItems:"1" maxItems:"500"`
	Note    string          `json:"note,omitempty" maxLength:"1000" doc:"Why, for the history."`
}

// rollback is the body of a request to bring back what was.
type rollback struct {
	To int64 `json:"to" minimum:"0" doc:"The id of the revision after which the settings were as they shall be; 0 is before the first."`
}

type revisionList struct {
	Revisions []tuning.Revision `json:"revisions"`
	Next      string            `json:"next,omitempty"`
}

// exported is a configuration with the settings of the database in it.
type exported struct {
	Files []exportedFile `json:"files" doc:"The files that change, by name."`
}

type exportedFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// DomainParameter is that of what belongs to a domain, see PageParameters.
type DomainParameter struct {
	Domain string `path:"domain" maxLength:"255" doc:"The domain, * for what all domains inherit." example:"example.org"`
}

func (a *api) settingRoutes() {
	handle(a, endpoint{id: "list-domains", method: http.MethodGet, path: "/v1/domains", summary: "List the domains of the configuration", text: "In the order of the file."}, tagSettings,
		func(ctx context.Context, _ *struct{}) (*answer[domainList], error) {
			list, err := a.Operations().Domains(ctx)
			return give(domainList{filled(list)}, err)
		})
	handle(a, endpoint{id: "list-tuned-domains", method: http.MethodGet, path: "/v1/settings", summary: "List the domains that have settings in the database", text: "By name, * first.", errors: []int{422}}, tagSettings,
		func(ctx context.Context, in *struct{ PageParameters }) (*answer[tunedList], error) {
			list, next, err := a.Operations().TunedDomains(ctx, in.page())
			return give(tunedList{filled(list), next}, err)
		})
	handle(a, endpoint{
		id: "get-domain-settings", method: http.MethodGet, path: "/v1/domains/{domain}/settings", summary: "Give the settings that hold for a domain",
		text: "Each attribute of each handler, with where its value comes from.", errors: []int{404, 422},
	}, tagSettings, func(ctx context.Context, in *struct {
		DomainParameter
		Handler string `query:"handler" maxLength:"255" doc:"Only those of this handler."`
	},
	) (*answer[effectiveSettings], error) {
		list, err := a.Operations().EffectiveSettings(ctx, in.Domain, in.Handler)
		return give(effectiveSettings{filled(list)}, err)
	})
	handle(a, endpoint{
		id: "list-stored-settings", method: http.MethodGet, path: "/v1/domains/{domain}/settings/stored", summary: "List what the database has for a domain", errors: []int{404, 422},
	}, tagSettings, func(ctx context.Context, in *DomainParameter) (*answer[domainSettings], error) {
		list, err := a.Operations().DomainSettings(ctx, in.Domain)
		return give(domainSettings{filled(list)}, err)
	})
	handle(a, endpoint{
		id: "export-config", method: http.MethodGet, path: "/v1/config/export", summary: "Give the configuration with the settings of the database in it",
		text: "The files that change, with their comments kept. It needs a token that may write, since a file may have secrets.", errors: []int{403, 422}, full: true,
	}, tagSettings, func(ctx context.Context, _ *struct{}) (*answer[exported], error) {
		files, err := a.Operations().ExportConfig(ctx)
		return give(newExported(files), err)
	})
	a.settingChangeRoutes()
}

func newExported(files map[string][]byte) exported {
	e := exported{Files: []exportedFile{}}
	for name, text := range files {
		e.Files = append(e.Files, exportedFile{Name: name, Text: string(text)})
	}
	slices.SortFunc(e.Files, func(a, b exportedFile) int { return strings.Compare(a.Name, b.Name) })
	return e
}

// settingChangeRoutes are those that change settings, and tell of changes.
func (a *api) settingChangeRoutes() {
	const path = "/v1/domains/{domain}/settings"
	handle(a, endpoint{
		id: "patch-domain-settings", method: http.MethodPatch, path: path, summary: "Change settings of a domain", maxBody: maxSettings, errors: []int{413, 422},
		text: "The body has for each handler the attributes with their new values; null takes one away, so that the layer below holds. " +
			"All are made together or none. They hold for the next message. Texts are never evaluated; for expressions, see /changes.",
	}, tagSettings, func(ctx context.Context, in *struct {
		DomainParameter
		Note string `query:"note" maxLength:"1000" doc:"Why, for the history."`
		Body patch  `doc:"Handler, attribute, value." example:"{\"greylist\":{\"delay\":\"10m\"}}"`
	},
	) (*answer[Report], error) {
		changes, err := in.Body.changes()
		if err != nil {
			return nil, err
		}
		if len(changes) == 0 {
			return nil, Invalid(errors.New(`change settings: the body names none; write {"greylist":{"delay":"10m"}}`))
		}
		return reported(a.Operations().ChangeDomain(ctx, in.Domain, changes, in.Note))
	})
	handle(a, endpoint{
		id: "change-domain-settings", method: http.MethodPost, path: path + "/changes", summary: "Change settings of a domain by expressions", maxBody: maxSettings, errors: []int{413, 422},
		text: `Each value is the text of an expression of the configuration language: "10m" in its quotes, true, 10, ["a"].`,
	}, tagSettings, func(ctx context.Context, in *struct {
		DomainParameter
		Body settingChanges
	},
	) (*answer[Report], error) {
		return reported(a.Operations().ChangeDomain(ctx, in.Domain, in.Body.Changes, in.Body.Note))
	})
	handle(a, endpoint{
		id: "rollback-domain-settings", method: http.MethodPost, path: path + "/rollback", summary: "Bring back the settings that a domain had", errors: []int{404, 422},
		text: "It is a change of its own, which the history then has.",
	}, tagSettings, func(ctx context.Context, in *struct {
		DomainParameter
		Body rollback
	},
	) (*answer[Report], error) {
		return reported(a.Operations().RollbackDomain(ctx, in.Domain, in.Body.To))
	})
	handle(a, endpoint{
		id: "list-domain-history", method: http.MethodGet, path: path + "/history", summary: "List what was changed of a domain's settings", text: "The newest first.", errors: []int{404, 422},
	}, tagSettings, func(ctx context.Context, in *struct {
		DomainParameter
		PageParameters
	},
	) (*answer[revisionList], error) {
		list, next, err := a.Operations().DomainHistory(ctx, in.Domain, in.page())
		return give(revisionList{filled(list), next}, err)
	})
}

// reported gives the report of a change, within the problem where it was refused.
func reported(report *Report, err error) (*answer[Report], error) {
	if err != nil {
		return nil, newProblem(err, report)
	}
	if report == nil {
		return nil, fmt.Errorf("change configuration: there is no report")
	}
	return &answer[Report]{*report}, nil
}
