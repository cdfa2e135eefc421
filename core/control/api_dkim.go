package control

import (
	"context"
	"net/http"
)

const tagDKIM = "dkim"

type dkimKeyList struct {
	Keys []DKIMKey `json:"keys"`
}

// newDKIMKeys is the body of a request for keys.
type newDKIMKeys struct {
	Algorithms []string `json:"algorithms,omitempty" maxItems:"2" enum:"rsa2048,ed25519" doc:"One key of each; of both without it."`
	Selector   string   `json:"selector,omitempty" maxLength:"63" doc:"The name of the key in the DNS; chosen without it."`
}

// dkimRotation is the body of a request for the next step.
type dkimRotation struct {
	Force bool `json:"force,omitempty" doc:"Wait neither for the DNS nor for the end of an overlap."`
}

// DKIMParameters are those of a domain's keys, for huma, which looks at exported types
// only.
type DKIMParameters struct {
	Domain string `path:"domain" maxLength:"253" example:"example.org"`
}

func (a *api) dkimRoutes() {
	const path = "/v1/dkim/{domain}"
	handle(a, endpoint{id: "list-dkim-keys", method: http.MethodGet, path: path, summary: "List the DKIM keys of a domain", text: "Those in files, then those that the server manages, with their records.", errors: []int{404, 422}}, tagDKIM,
		func(ctx context.Context, in *struct{ DKIMParameters }) (*answer[dkimKeyList], error) {
			list, err := a.Operations().DKIMKeys(ctx, in.Domain)
			return give(dkimKeyList{filled(list)}, err)
		})
	handle(a, endpoint{
		id: "make-dkim-keys", method: http.MethodPost, path: path + "/keys", summary: "Make DKIM keys that the server manages", errors: []int{404, 409, 422},
		text: "They sign at once if none does, and else wait for a rotation.",
	}, tagDKIM, func(ctx context.Context, in *struct {
		DKIMParameters
		Body newDKIMKeys
	},
	) (*answer[*DKIMStep], error) {
		step, err := a.Operations().MakeDKIMKeys(ctx, in.Domain, NewDKIMKeys(in.Body))
		return give(step, err)
	})
	handle(a, endpoint{
		id: "rotate-dkim", method: http.MethodPost, path: path + "/rotate", summary: "Do the next safe step of replacing DKIM keys", errors: []int{404, 422},
		text: "It makes new keys; once the DNS shows them, signs with them; and after the overlap deletes the old ones. What it did and what is to be done next, the answer says.",
	}, tagDKIM, func(ctx context.Context, in *struct {
		DKIMParameters
		Body dkimRotation
	},
	) (*answer[*DKIMStep], error) {
		step, err := a.Operations().RotateDKIM(ctx, in.Domain, in.Body.Force)
		return give(step, err)
	})
	handle(a, endpoint{id: "check-dkim", method: http.MethodGet, path: path + "/check", summary: "Ask the DNS for the DKIM keys of a domain", errors: []int{404, 422}}, tagDKIM,
		func(ctx context.Context, in *struct{ DKIMParameters }) (*answer[*DKIMReport], error) {
			report, err := a.Operations().CheckDKIM(ctx, in.Domain)
			return give(report, err)
		})
}
