package control

import (
	"context"
	"net/http"
	"reflect"

	"github.com/mox-like/mox-like/core/trace"
)

const tagServer = "server"

var recordType = reflect.TypeFor[trace.Record]()

type auditList struct {
	Changes []AuditEntry `json:"changes"`
	Next    string       `json:"next,omitempty"`
}

func (a *api) processRoutes() {
	handle(a, endpoint{id: "get-status", method: http.MethodGet, path: "/v1/status", summary: "Tell what runs"}, tagServer,
		func(ctx context.Context, _ *struct{}) (*answer[*Status], error) {
			return give(a.Operations().Status(ctx))
		})
	handle(a, endpoint{
		id: "reload", method: http.MethodPost, path: "/v1/reload", summary: "Have the server read its configuration again", errors: []int{422, 503},
		text: "A configuration with errors changes nothing; the problem has the diagnostics.",
	}, tagServer, func(ctx context.Context, _ *struct{}) (*answer[Report], error) {
		return reported(a.Operations().Reload(ctx))
	})
	handle(a, endpoint{
		id: "list-audit", method: http.MethodGet, path: "/v1/audit", summary: "List the changes that were made by commands and by the API", errors: []int{422},
		text: "The newest first.",
	}, tagServer, func(ctx context.Context, in *struct {
		Actor     string `query:"actor" maxLength:"255" doc:"Only those of this actor."`
		Operation string `query:"operation" maxLength:"64" doc:"Only those of this operation, such as add-user."`
		Object    string `query:"object" maxLength:"320" doc:"Only those of this object."`
		PageParameters
	},
	) (*answer[auditList], error) {
		list, next, err := a.Operations().Audit(ctx, ChangeFilter{Actor: in.Actor, Operation: in.Operation, Object: in.Object}, in.page())
		return give(auditList{filled(list), next}, err)
	})
}
