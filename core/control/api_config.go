package control

import (
	"context"
	"net/http"
	"reflect"

	"github.com/mox-like/mox-like/core/effective"
)

const effectivePath = "/v1/config/effective"

// Names that say in the description of the API what these types are of.
type (
	configuration      effective.Config
	configBlock        effective.Block
	configValue        effective.Value
	configUse          effective.Use
	configListener     effective.Listener
	configDomain       effective.Domain
	configDomainChain  effective.DomainChain
	configChainStep    effective.Step
	configChainStepVia effective.Via
)

func (a *api) configRoutes() {
	schemas := a.schema.OpenAPI().Components.Schemas
	for of, name := range map[reflect.Type]reflect.Type{
		reflect.TypeFor[effective.Config]():      reflect.TypeFor[configuration](),
		reflect.TypeFor[effective.Block]():       reflect.TypeFor[configBlock](),
		reflect.TypeFor[effective.Value]():       reflect.TypeFor[configValue](),
		reflect.TypeFor[effective.Use]():         reflect.TypeFor[configUse](),
		reflect.TypeFor[effective.Listener]():    reflect.TypeFor[configListener](),
		reflect.TypeFor[effective.Domain]():      reflect.TypeFor[configDomain](),
		reflect.TypeFor[effective.DomainChain](): reflect.TypeFor[configDomainChain](),
		reflect.TypeFor[effective.Step]():        reflect.TypeFor[configChainStep](),
		reflect.TypeFor[effective.Via]():         reflect.TypeFor[configChainStepVia](),
	} {
		schemas.RegisterTypeAlias(of, name)
	}
	handle(a, endpoint{
		id: "get-effective-config", method: http.MethodGet, path: effectivePath, summary: "Give the configuration as it holds",
		text: "With the values of variables, includes, defaults and the settings of the database in it, and with where each value comes from. " +
			"Stars stand for secrets. It needs a token that may write, as the export does.", errors: []int{403, 422}, full: true,
	}, tagSettings, func(ctx context.Context, in *effectiveQuery) (*answer[*effective.Config], error) {
		c, err := a.Operations().EffectiveConfig(ctx, effective.Query{Domain: in.Domain, Listener: in.Listener, Salt: in.Salt})
		return give(c, err)
	})
}

// effectiveQuery are the parameters of the effective configuration.
type effectiveQuery struct {
	Domain   string `query:"domain" maxLength:"255" doc:"Give the chains as they hold for this domain."`
	Listener string `query:"listener" maxLength:"255" doc:"Only this listener."`
	Salt     string `query:"salt" maxLength:"64" doc:"Give fingerprints of secrets, keyed by this, to tell whether they are the same elsewhere."`
}
