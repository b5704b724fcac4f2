package doctor

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/connect"
)

// checkServers looks whether the servers that are registered can be reached from
// this machine, and returns their names.
func (e *examination) checkServers(ctx context.Context) []string {
	names, err := e.names(ctx, "servers")
	switch {
	case err != nil:
		e.wrong("use a token that may list servers", "the servers cannot be listed: %s", connect.Reason(err))
	case len(names) == 0:
		e.wrong("register one: vault write "+e.Mount+"/servers/NAME transport=http url=https://…", "no server is registered")
	}
	for _, name := range names {
		server, err := e.ask(ctx, e.Mount+"/servers/"+name)
		if err != nil || server == nil {
			continue // deleted meanwhile
		}
		address, _ := server["url"].(string)
		if address == "" {
			e.checkCommand(name, fmt.Sprint(server["command"]))
			continue
		}
		if err := dial(ctx, address); err != nil {
			e.wrong("start it, or correct its url; from the gateway's machine it may be reachable all the same", "the server %s does not answer at %s: %v", name, address, err)
			continue
		}
		e.ok("the server %s answers at %s", name, address)
	}
	return names
}

// checkPolicies looks for policies that leave no client any server.
func (e *examination) checkPolicies(ctx context.Context, servers []string) {
	why := ""
	for _, server := range servers {
		answer, err := e.evaluate(ctx, map[string]any{"policies": []string{}, "server": server})
		if err != nil || answer["allowed"] == true {
			return
		}
		why = fmt.Sprint(answer["reason"])
	}
	if e.blocked = why != ""; e.blocked {
		e.wrong(fmt.Sprintf("correct the managed policies; see each server: vault write %s/evaluate policies= server=…", e.Mount),
			"the managed policies block every server that is registered, for every client; the last because %s", why)
	}
}

// evaluate asks the engine for a decision.
func (e *examination) evaluate(ctx context.Context, question map[string]any) (map[string]any, error) {
	answer, err := e.vault.Logical().WriteWithContext(ctx, e.Mount+"/evaluate", question)
	if err != nil || answer == nil {
		return map[string]any{}, err
	}
	return answer.Data, nil
}

// dial connects to the host of a URL and hangs up.
func dial(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return connection.Close()
}

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
			e.checkExpiry(ctx, name, client)
		}
	}
	if before == e.findings {
		e.ok("clients: %d; each reaches a server, and no token ends within %s", len(names), e.Expiring)
	}
}

func (e *examination) checkReach(ctx context.Context, name string, client map[string]any) {
	allowed := texts(client["allowed_servers"])
	if len(allowed) == 0 {
		e.wrong(fmt.Sprintf("vault write %s/clients/%s allowed_servers=…, or delete the client", e.Mount, name), "the client %s may reach no server", name)
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
		e.wrong(fmt.Sprintf("see each server: vault write %s/evaluate client=%s server=…", e.Mount, name), "the client %s reaches none of its servers; the last because %s", name, why)
	}
}

// checkExpiry looks at a client's own token, unless the client lives on leased ones.
func (e *examination) checkExpiry(ctx context.Context, name string, client map[string]any) {
	rotate := fmt.Sprintf("vault write -f %s/rotate-client/%s, and hand the client its new token", e.Mount, name)
	expires, _ := client["expires_at"].(string)
	at, err := time.Parse(time.RFC3339Nano, expires)
	if err != nil {
		return // it does not expire
	}
	left := time.Until(at).Round(time.Minute)
	if left >= e.Expiring || e.leases(ctx, name) {
		return
	}
	switch {
	case left <= 0:
		e.wrong(rotate, "the token of the client %s has ended at %s", name, expires)
	default:
		e.wrong(rotate, "the token of the client %s ends in %s", name, left)
	}
}

// newestTokens is how many of a client's tokens are looked at.
const newestTokens = 16

// leases tells whether a client lives on leased tokens, as one beside Vault Agent does.
func (e *examination) leases(ctx context.Context, name string) bool {
	path := "clients/" + name + "/tokens"
	accessors, err := e.names(ctx, path) // the leased ones come last
	if err != nil {
		return false
	}
	for i := len(accessors) - 1; i >= 0 && i >= len(accessors)-newestTokens; i-- {
		token, err := e.ask(ctx, e.Mount+"/"+path+"/"+accessors[i])
		if err == nil && token["kind"] == "leased" && token["state"] == "active" {
			return true
		}
	}
	return false
}
