package doctor

import (
	"context"
	"fmt"
	"slices"
)

// allowedServers are the servers in allowed_servers of a client and of its role, which it may
// reach if policies admit them. Missing is the role if it does not exist: then nothing counts.
func (e *examination) allowedServers(ctx context.Context, client map[string]any) (servers []string, missing string) {
	servers = texts(client["allowed_servers"])
	name, _ := client["role"].(string)
	if name != "" {
		role, err := e.ask(ctx, e.Mount+"/roles/"+name)
		switch {
		case err != nil: // it may be there all the same
		case role == nil:
			return nil, name
		default:
			servers = slices.Concat(servers, texts(role["allowed_servers"]))
		}
	}
	return servers, ""
}

// missingRole reports a client that reaches nothing for want of its role.
func (e *examination) missingRole(client, role string) {
	e.wrong(fmt.Sprintf("create it: vault write %s/roles/%s allowed_servers=…, or take it from the client: vault write %s/clients/%s role=", e.Mount, role, e.Mount, client),
		"the client %s has the role %s, which does not exist, and so it reaches nothing", client, role)
}
