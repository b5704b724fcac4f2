package doctor

import (
	"context"
	"fmt"
	"net"
	"net/url"

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
