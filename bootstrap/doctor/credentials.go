package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

const (
	// trialTTL is how long what is taken for a trial lives at most, should doctor be killed.
	trialTTL = "2m"
	// leaseTimeout bounds the wait for the end of leases: Vault revokes them after its answer.
	leaseTimeout = 10 * time.Second
	leasePause   = 100 * time.Millisecond
)

// trial tries the upstream credentials of one client, with child tokens as a gateway mints
// them. It prints no value.
type trial struct {
	*examination
	client   string
	role     string // the token role
	alias    string
	accessor string // of Vault's token method
	own      string // the entity of doctor's own token
	policies []string
	values   credential.Values

	child  *api.Client
	tokens int
	leases []string
	full   map[string]any // the registry with the data of credentials; nil: it was not asked for
}

// checkCredentials mints a child token for the client, asks for each credential of each of its servers,
// and revokes all of it.
func (e *examination) checkCredentials(ctx context.Context) {
	if e.Client == "" {
		return
	}
	t, client := e.newTrial(ctx)
	if t == nil {
		return
	}
	servers := t.servers(ctx, client)
	if len(servers) == 0 {
		e.ok("no server that the client %s may reach has upstream credentials", e.Client)
		return
	}
	t.child = t.mint(ctx, t.policies)
	if t.child != nil {
		// Ctrl-C ends the trial, and not the end of what it has taken.
		defer t.end(context.WithoutCancel(ctx))
	}
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		t.tryServer(ctx, name, servers[name])
	}
}

// newTrial reads the client and the token role; nil, after a finding, if it cannot.
func (e *examination) newTrial(ctx context.Context) (*trial, map[string]any) {
	client, err := e.ask(ctx, e.Mount+"/clients/"+e.Client)
	switch {
	case err != nil:
		e.wrong(useAdmin, "the client %s cannot be read: %s", e.Client, connect.Reason(err))
		return nil, nil
	case client == nil:
		e.wrong(fmt.Sprintf("correct -client: `vault list %s/clients` has the names", e.Mount), "there is no client %s", e.Client)
		return nil, nil
	case client["disabled"] == true:
		e.wrong(fmt.Sprintf("vault write %s/clients/%s disabled=false", e.Mount, e.Client), "the client %s is disabled: gateways lease nothing for it", e.Client)
		return nil, nil
	}
	t := &trial{examination: e, client: e.Client, role: cmp.Or(e.TokenRole, e.role())}
	role, err := e.ask(ctx, provision.RolesPath+"/"+t.role)
	if err != nil || role == nil {
		e.wrong("name the token role with -token-role, and use a token that may read it", "the token role %s cannot be read: is it there?", t.role)
		return nil, nil
	}
	prefix := ""
	for _, pattern := range texts(role["allowed_entity_aliases"]) {
		prefix = cmp.Or(prefix, provision.PrefixOf(pattern))
	}
	if block := e.upstreamBlock(); block != nil {
		prefix = block.AliasPrefix
	}
	if prefix == "" {
		e.wrong("name another with -token-role; gateways need allowed_entity_aliases='mcp:*'", "the token role %s mints for no prefix with a colon: %v", t.role, texts(role["allowed_entity_aliases"]))
		return nil, nil
	}
	t.alias = provision.ClientAlias(prefix, e.Client)
	t.values.ClientAlias = t.alias
	if !t.takePolicies(client) {
		return nil, nil
	}
	if t.accessor, err = provision.TokenAccessor(ctx, e.vault); err != nil {
		t.accessor = "TOKEN_ACCESSOR"
	}
	if self, err := e.ask(ctx, "auth/token/lookup-self"); err == nil {
		t.own, _ = self["entity_id"].(string)
	}
	return t, client
}

// takePolicies notes the policies with which a gateway would mint: the client's own, or those of
// the gateway's file, without which it is all that the token role gives. It reports, after a
// finding, whether there are some.
func (t *trial) takePolicies(client map[string]any) bool {
	if client["upstream_policies"] == nil {
		if block := t.upstreamBlock(); block != nil {
			t.policies = block.Policies
		}
		return true
	}
	t.policies = texts(client["upstream_policies"])
	switch {
	case len(t.policies) == 0:
		return t.wrong(fmt.Sprintf("vault write %s/clients/%s upstream_policies=…", t.Mount, t.client), "the client %s may have no upstream credentials: its upstream_policies are an empty list", t.client)
	case len(t.foreignPolicies(t.policies)) > 0 && len(t.leasing) > 0:
		return false // reported by checkClients
	}
	t.values.Metadata = map[string]string{}
	metadata, _ := client["metadata"].(map[string]any)
	for key, value := range metadata {
		t.values.Metadata[key] = fmt.Sprint(value)
	}
	return true
}

// servers are those that the client may reach and that have upstream credentials.
func (t *trial) servers(ctx context.Context, client map[string]any) map[string]map[string]any {
	names, _ := t.allowedServers(ctx, client)
	if slices.Contains(names, "*") {
		names, _ = t.names(ctx, "servers") // reported by checkServers
	}
	found := map[string]map[string]any{}
	for _, name := range names {
		if !slices.Contains(t.leasing, name) {
			continue
		}
		answer, err := t.evaluate(ctx, map[string]any{"client": t.client, "server": name})
		if err != nil || answer["allowed"] != true {
			continue // reported by checkClients, if it reaches none
		}
		if server, err := t.ask(ctx, t.Mount+"/servers/"+name); err == nil && server != nil {
			found[name] = server
		}
	}
	return found
}

// mint makes a child token and compares it with what was asked, as a gateway does; nil, after a
// finding, if there is none that a gateway would use.
func (t *trial) mint(ctx context.Context, names []string) *api.Client {
	path := "auth/token/create/" + t.role
	data := map[string]any{"entity_alias": t.alias, "ttl": trialTTL}
	if names != nil {
		data["policies"] = names
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	secret, err := t.vault.Logical().WriteWithContext(ctx, path, data)
	switch {
	case isForbidden(err):
		t.wrong("give it, in a policy of its own: "+line(path, "update"), "VAULT_TOKEN may not mint under the token role %s, so the credentials of the client %s were not tried", t.role, t.client)
		return nil
	case err != nil || secret == nil || secret.Auth == nil:
		t.wrong("allow these policies and this alias in "+provision.RolesPath+"/"+t.role+", or name others", "no child token for %s is minted with %s: %s", t.alias, policyNames(names), reason(err))
		return nil
	}
	child, err := t.vault.CloneWithHeaders()
	if err != nil {
		t.wrong("see the VAULT_… variables", "cannot make a client for Vault: %v", err)
		return nil
	}
	child.SetToken(secret.Auth.ClientToken)
	t.tokens++
	bad := ""
	switch auth := secret.Auth; {
	case auth.EntityID == "" || auth.EntityID == t.own:
		bad = "it has not the entity of " + t.alias
	case len(auth.IdentityPolicies) > 0:
		bad = fmt.Sprintf("its entity adds the policies %v", auth.IdentityPolicies)
	case !auth.Renewable:
		bad = "it cannot be renewed"
	}
	if bad != "" {
		t.wrong("see the token role "+t.role+" and the entity of "+t.alias, "a gateway would not use the child token that is minted for %s: %s", t.alias, bad)
		t.revoke(context.WithoutCancel(ctx), child)
		return nil
	}
	t.ok("a child token for %s is minted under the token role %s, with the policies %s", t.alias, t.role, strings.Join(secret.Auth.TokenPolicies, ", "))
	return child
}

// end revokes the child token, with it every lease, and looks whether anything is left.
func (t *trial) end(ctx context.Context) {
	if !t.revoke(ctx, t.child) {
		return
	}
	left, err := t.leasesLeft(ctx, leaseTimeout)
	switch {
	case isForbidden(err):
		t.ok("everything that was leased for the client %s is revoked: child tokens: %d; whether their leases (%d) have ended could not be looked at without: %s",
			t.client, t.tokens, len(t.leases), line("sys/leases/lookup", "update"))
	case err != nil:
		t.wrong("vault lease lookup "+left, "whether a lease that was taken for the client %s has ended is not known: %s", t.client, connect.Reason(err))
	case left != "":
		t.wrong("see Vault's log: it repeats the revocation; vault lease lookup "+left, "the lease %s was taken for the client %s, and is not revoked after %s", left, t.client, leaseTimeout)
	default:
		t.ok("everything that was leased for the client %s is revoked: child tokens: %d, leases: %d", t.client, t.tokens, len(t.leases))
	}
}

// revoke has a child token revoke itself, and looks whether it is dead.
func (t *trial) revoke(ctx context.Context, child *api.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := child.Logical().WriteWithContext(ctx, "auth/token/revoke-self", nil)
	if err == nil {
		if _, err = child.Auth().Token().LookupSelfWithContext(ctx); isForbidden(err) {
			return true
		}
		err = errors.New("it lives on")
	}
	todo := "see Vault's log"
	if isForbidden(err) {
		todo = "add to its policies: " + line("auth/token/revoke-self", "update")
	}
	return t.wrong(todo, "a child token that was minted for %s does not revoke itself, and ends by itself within %s: %s", t.alias, trialTTL, reason(err))
}

// leasesLeft is a lease that has not ended within the bound; "" if there is none.
func (t *trial) leasesLeft(ctx context.Context, bound time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for _, id := range t.leases {
		for {
			_, err := t.vault.Logical().WriteWithContext(ctx, "sys/leases/lookup", map[string]any{"lease_id": id})
			var answer *api.ResponseError
			if errors.As(err, &answer) && answer.StatusCode == http.StatusBadRequest { // "invalid lease"
				break
			}
			if ctx.Err() != nil {
				return id, nil
			}
			if err != nil {
				return id, err
			}
			select {
			case <-ctx.Done():
			case <-time.After(leasePause):
			}
		}
	}
	return "", nil
}

func policyNames(names []string) string {
	if names == nil {
		return "the policies of the role"
	}
	return "the policies " + strings.Join(names, ", ")
}

func reason(err error) string {
	if err == nil {
		return "the answer is empty"
	}
	return connect.Reason(err)
}

func isForbidden(err error) bool {
	var answer *api.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == http.StatusForbidden
}
