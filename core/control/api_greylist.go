package control

import (
	"context"
	"net/http"
)

const tagGreylist = "greylist"

type tripletList struct {
	Triplets []Triplet `json:"triplets"`
	Next     string    `json:"next,omitempty"`
}

type allowedList struct {
	Allowed []Allowed `json:"allowed"`
	Next    string    `json:"next,omitempty"`
}

// newAllowed is the body of a request to never defer somebody.
type newAllowed struct {
	Subject string `json:"subject" maxLength:"320" doc:"An address, a network, a domain or a mail address." example:"example.org"`
	Reason  string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for people."`
}

func (a *api) greylistRoutes() {
	handle(a, endpoint{id: "list-greylist", method: http.MethodGet, path: "/v1/greylist", summary: "List the entries of the greylist", errors: []int{422}}, tagGreylist,
		func(ctx context.Context, in *struct {
			State     string `query:"state" enum:"greylisted,passed,expired" doc:"Only those of this state."`
			Client    string `query:"client" maxLength:"320" doc:"Only those of this network or authenticated domain."`
			Sender    string `query:"sender" maxLength:"320" doc:"Only those of this sender, in normal form."`
			Recipient string `query:"recipient" maxLength:"320" doc:"Only those of this recipient or domain."`
			PageParameters
		},
		) (*answer[tripletList], error) {
			list, next, err := a.Operations().Triplets(ctx, TripletFilter{State: in.State, Client: in.Client, Sender: in.Sender, Recipient: in.Recipient}, in.page())
			return give(tripletList{filled(list), next}, err)
		})
	handle(a, endpoint{id: "release-triplet", method: http.MethodPost, path: "/v1/greylist/{id}/release", summary: "Let an entry pass from now on", status: http.StatusNoContent, errors: []int{404, 422}}, tagGreylist,
		func(ctx context.Context, in *struct {
			ID int64 `path:"id" doc:"The id of the entry."`
		},
		) (*nothing, error) {
			return nil, a.Operations().ReleaseTriplet(ctx, in.ID)
		})
	const path = "/v1/greylist/allowed"
	handle(a, endpoint{id: "list-greylist-allowed", method: http.MethodGet, path: path, summary: "List who is never deferred", errors: []int{422}}, tagGreylist,
		func(ctx context.Context, in *struct{ PageParameters }) (*answer[allowedList], error) {
			list, next, err := a.Operations().GreylistAllowed(ctx, in.page())
			return give(allowedList{filled(list), next}, err)
		})
	handle(a, endpoint{id: "allow-greylist", method: http.MethodPost, path: path, summary: "Never defer a client or a sender", status: http.StatusNoContent, errors: []int{422}}, tagGreylist,
		func(ctx context.Context, in *struct{ Body newAllowed }) (*nothing, error) {
			return nil, a.Operations().AllowGreylist(ctx, Allowed{Subject: in.Body.Subject, Reason: in.Body.Reason})
		})
	handle(a, endpoint{id: "disallow-greylist", method: http.MethodDelete, path: path + "/{subject}", summary: "Defer a client or a sender like others again", text: "A / in the path is written as %2F.", errors: []int{404, 422}}, tagGreylist,
		func(ctx context.Context, in *struct {
			Subject string `path:"subject" maxLength:"320"`
		},
		) (*nothing, error) {
			return nil, a.Operations().DisallowGreylist(ctx, in.Subject)
		})
}
