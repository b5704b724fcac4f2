package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/connect"
)

// checkClients looks for clients that reach nothing, and for tokens that end soon.
func (e *examination) checkClients(ctx context.Context) {
	names, err := e.names(ctx, "clients")
	if err != nil {
		e.wrong("use a token that may list clients", "the clients cannot be listed: %s", connect.Reason(err))
		return
	}
	before := e.findings
	for _, name := range names {
		client, err := e.ask(ctx, e.Mount+"/clients/"+name)
		if err == nil && client != nil && client["disabled"] != true {
			if !e.blocked {
				e.checkReach(ctx, name, client)
			}
			e.checkSeal(name, client)
			e.checkUpstreamPolicies(ctx, name, client)
			if client["sign_in"] != true { // whose tokens come from sign-ins
				e.checkTokens(ctx, name, client)
			}
		}
	}
	if before == e.findings {
		e.ok("clients: %d; each that is not disabled reaches a server, and has a token that does not end within %s or gets its tokens by sign-in", len(names), e.Expiring)
	}
}

func (e *examination) checkReach(ctx context.Context, name string, client map[string]any) {
	allowed, missing := e.allowedServers(ctx, client)
	switch {
	case missing != "":
		e.missingRole(name, missing)
		return
	case len(allowed) == 0:
		e.wrong(fmt.Sprintf("vault write %s/clients/%s allowed_servers=… or role=…, or delete the client", e.Mount, name), "the client %s may reach no server", name)
		return
	}
	if slices.Contains(allowed, "*") {
		allowed, _ = e.names(ctx, "servers") // reported by checkServers
	}
	why := ""
	for _, server := range allowed {
		answer, err := e.evaluate(ctx, map[string]any{"client": name, "server": server})
		switch {
		case err != nil:
			why = connect.Reason(err)
		case answer["allowed"] == true:
			return
		default:
			why = fmt.Sprint(answer["reason"])
		}
	}
	if why != "" {
		e.wrong(fmt.Sprintf("see each server: vault write -field=summary %s/evaluate client=%s server=…", e.Mount, name), "the client %s reaches none of its servers; the last because %s", name, why)
	}
}

// checkTokens looks whether anybody can connect as a client, and for how long.
func (e *examination) checkTokens(ctx context.Context, name string, client map[string]any) {
	rotate := fmt.Sprintf("vault write -f %s/rotate-client/%s, and hand the client its new token", e.Mount, name)
	accessor, _ := client["accessor"].(string)
	own := accessor != "" && e.active(ctx, name, accessor)
	expires, _ := client["expires_at"].(string)
	at, err := time.Parse(time.RFC3339Nano, expires)
	left := time.Until(at).Round(time.Minute)
	ends := err == nil && left < e.Expiring
	if own && !ends || e.leases(ctx, name) {
		return
	}
	switch {
	case own:
		e.wrong(rotate, "the token of the client %s ends in %s", name, left)
	case ends && left <= 0:
		e.wrong(rotate+"; or start its Vault Agent", "the token of the client %s has ended at %s", name, expires)
	default:
		e.wrong(fmt.Sprintf("%s; or start its Vault Agent; or say that it is out of use: vault write %s/clients/%s disabled=true", rotate, e.Mount, name),
			"the client %s has no valid token: each was revoked, or has ended", name)
	}
}

// newestTokens is how many of a client's tokens are looked at.
const newestTokens = 16

// leases reports whether a client lives on leased tokens, as one beside Vault Agent does.
func (e *examination) leases(ctx context.Context, name string) bool {
	accessors, err := e.names(ctx, "clients/"+name+"/tokens") // the leased ones come last
	if err != nil {
		return false
	}
	for i := len(accessors) - 1; i >= 0 && i >= len(accessors)-newestTokens; i-- {
		token, err := e.ask(ctx, e.Mount+"/clients/"+name+"/tokens/"+accessors[i])
		if err == nil && token["kind"] == "leased" && token["state"] == "active" {
			return true
		}
	}
	return false
}

// active reports whether a token is good.
func (e *examination) active(ctx context.Context, name, accessor string) bool {
	token, err := e.ask(ctx, e.Mount+"/clients/"+name+"/tokens/"+accessor)
	return err == nil && token["state"] == "active"
}
