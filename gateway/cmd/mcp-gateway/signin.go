package main

import (
	"net/http"
	"net/url"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/seal"
	"vault-plugin-secrets-mcp/gateway/signin"
	"vault-plugin-secrets-mcp/gateway/signin/application"
	"vault-plugin-secrets-mcp/gateway/signin/page"
	"vault-plugin-secrets-mcp/gateway/telemetry"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// signIn is the sign-in of the gateway. Its parts outlive a reload, so that limits, used
// assertions and fetched documents do, too.
type signIn struct {
	audit  *access.SignInLog
	events *telemetry.SignIn
	limits *signin.Limits
	sealer *seal.Sealer
	engine *vaultclient.Engine

	people       *vaultclient.People   // nil: no file has had the block yet
	applications *application.Registry // likewise
	origin       string                // of the applications' issuer
	handler      *signin.Handler       // nil: the file has no such block
}

// newSignIn prepares sign-in, for a file that has it now or after a reload.
func (g *gateway) newSignIn() *signIn {
	return &signIn{
		audit:  access.NewSignInAudit(g.audit),
		events: g.metrics.SignIn(),
		limits: signin.NewLimits(),
		sealer: seal.New(g.broker.SessionKeys),
		engine: vaultclient.NewEngine(g.broker.Login(), g.settings.Vault),
	}
}

// configureSignIn makes the handler of these settings. After an error the old one stays.
func (g *gateway) configureSignIn(settings *config.Config) error {
	s := g.signIn
	if settings.SignIn == nil {
		s.handler = nil
		return nil
	}
	if s.people == nil {
		people, err := vaultclient.NewPeople(g.settings.Vault, g.log.Named("people"))
		if err != nil {
			return err
		}
		s.people = people
	}
	if err := g.configureApplications(settings.SignIn); err != nil {
		return err
	}
	handler, err := signin.New(signin.Options{
		Settings:     settings.SignIn,
		PublicURL:    settings.SignIn.Origin,
		Sealer:       s.sealer,
		Applications: s.applications,
		People:       s.people,
		Engine:       s.engine,
		Broker:       g.broker,
		Audit:        s.audit,
		Observer:     s.events,
		Limits:       s.limits,
		Log:          g.log.Named("sign-in"),
	})
	if err != nil {
		return err
	}
	s.handler = handler
	return nil
}

// configureApplications has the applications known by these settings. With another issuer
// they are others.
func (g *gateway) configureApplications(settings *config.SignIn) error {
	s := g.signIn
	if s.applications != nil && s.origin == settings.Origin {
		return s.applications.Configure(settings)
	}
	options := applicationOptions(settings)
	options.Sealer, options.RefreshKeys = s.sealer, g.broker.RefreshSessionKeys
	applications, err := application.New(options)
	if err != nil {
		return err
	}
	s.applications, s.origin = applications, settings.Origin
	return nil
}

func applicationOptions(settings *config.SignIn) application.Options {
	return application.Options{
		Settings:      settings,
		Issuer:        settings.Origin + signin.IssuerPath,
		TokenEndpoint: settings.Origin + signin.TokenPath,
	}
}

// checkSignIn finds mistakes in the files that the block names.
func checkSignIn(settings *config.Config) error {
	if settings.SignIn == nil {
		return nil
	}
	_, err := application.New(applicationOptions(settings.SignIn))
	return err
}

// gateSignIn gives the gate its options for sign-in, and the page at the root.
func (g *gateway) gateSignIn(options *access.Options, settings *config.Config) {
	root := page.RootData{PublicURL: access.Base(settings.Listener.PublicURL)}
	if handler := g.signIn.handler; handler != nil {
		options.SignIn = handler
		// Tokens are for resources with this origin. So the gate compares them with the
		// same spelling of it.
		if origin, err := url.Parse(settings.SignIn.Origin); err == nil {
			options.Listener.PublicURL = origin
		}
		root.PublicURL, root.SignIn = settings.SignIn.Origin, true
		root.DynamicRegistration = settings.SignIn.DynamicRegistration
		root.MetadataDocuments = len(settings.SignIn.MetadataDocuments) > 0
	}
	options.Root = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { page.Root(w, root) })
}
