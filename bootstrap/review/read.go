package review

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"
	"golang.org/x/sync/errgroup"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/bootstrap/connect"
)

// atOnce is how many requests to Vault are under way at the same time.
const atOnce = 8

// Read reads the mount. It takes one request for each client, role, server and policy, and one
// for each client's usage. A change meanwhile is seen in part.
func Read(ctx context.Context, vault *api.Client, mount string) (*Snapshot, error) {
	health, err := connect.Health(ctx, vault)
	if err != nil {
		return nil, err
	}
	r := &reader{vault: vault, mount: strings.Trim(mount, "/")}
	s := &Snapshot{At: health.Time.UTC(), Cluster: health.Cluster, Mount: r.mount, Asked: map[Question]policy.Decision{}}
	policies := map[string]*policyRead{}
	for _, read := range []func() error{
		func() (err error) { s.Clients, err = readAll[ClientSettings](ctx, r, "clients"); return err },
		func() (err error) { s.Roles, err = readAll[RoleSettings](ctx, r, "roles"); return err },
		func() (err error) { s.Servers, err = readAll[ServerSettings](ctx, r, "servers"); return err },
		func() (err error) { policies, err = readAll[policyRead](ctx, r, "policies"); return err },
		func() error { return r.readUsage(ctx, s) },
	} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	s.Policies = make(map[string]policy.Source, len(policies))
	for name, p := range policies {
		s.Policies[name] = policy.Source{Name: name, Managed: p.Managed, Policy: p.Document}
	}
	return s, r.ask(ctx, s)
}

// policyRead is a policy as a read answers it.
type policyRead struct {
	Managed  bool
	Document policy.Document
}

// UnmarshalJSON reads the policy's settings as strictly as the engine does.
func (p *policyRead) UnmarshalJSON(data []byte) error {
	fields := map[string]any{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	p.Managed = fields["managed"] == true
	delete(fields, "managed")
	document, _, err := policy.ParseFields(fields)
	p.Document = document
	return err
}

// reader asks Vault.
type reader struct {
	vault *api.Client
	mount string
}

// readAll reads each entry of a folder of the mount, by its name. An entry that went between
// the list and its read is left out.
func readAll[T any](ctx context.Context, r *reader, folder string) (map[string]*T, error) {
	names, err := r.names(ctx, folder)
	if err != nil {
		return nil, err
	}
	entries := make(map[string]*T, len(names))
	var lock sync.Mutex
	err = inParallel(ctx, names, func(ctx context.Context, name string) error {
		entry := new(T)
		found, err := r.read(ctx, folder+"/"+name, entry)
		if err == nil && found {
			lock.Lock()
			entries[name] = entry
			lock.Unlock()
		}
		return err
	})
	return entries, err
}

func inParallel[T any](ctx context.Context, all []T, do func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, one := range all {
		group.Go(func() error { return do(ctx, one) })
	}
	return group.Wait()
}

// names lists a folder; an engine without that folder has nothing in it.
func (r *reader) names(ctx context.Context, folder string) ([]string, error) {
	secret, err := r.vault.Logical().ListWithContext(ctx, r.mount+"/"+folder)
	if err != nil {
		return nil, fmt.Errorf("cannot list %s/%s: %w", r.mount, folder, connect.Explain(err))
	}
	var answer struct {
		Keys []string `json:"keys"`
	}
	if _, err := decode(secret, &answer); err != nil {
		return nil, fmt.Errorf("cannot list %s/%s: %w", r.mount, folder, err)
	}
	return answer.Keys, nil
}

// read reads a path into a value, and reports whether there is anything.
func (r *reader) read(ctx context.Context, path string, into any) (bool, error) {
	secret, err := r.vault.Logical().ReadWithContext(ctx, r.mount+"/"+path)
	if err != nil {
		return false, fmt.Errorf("cannot read %s/%s: %w", r.mount, path, connect.Explain(err))
	}
	found, err := decode(secret, into)
	if err != nil {
		return false, fmt.Errorf("cannot read %s/%s: %w", r.mount, path, err)
	}
	return found, nil
}

// decode puts an answer's data into a value.
func decode(secret *api.Secret, into any) (bool, error) {
	if secret == nil || secret.Data == nil {
		return false, nil
	}
	data, err := json.Marshal(secret.Data)
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(data, into)
}

// ask has the engine decide about the servers whose whole URL it alone knows, once for each
// list of policies that some client has.
func (r *reader) ask(ctx context.Context, s *Snapshot) error {
	var questions []Question
	for name, server := range s.Servers {
		if len(server.Query) == 0 || server.Disabled {
			continue
		}
		for _, client := range s.Clients {
			q := Question{Policies: strings.Join(client.Policies, ","), Server: name}
			if !slices.Contains(questions, q) {
				questions = append(questions, q)
			}
		}
	}
	var lock sync.Mutex
	return inParallel(ctx, questions, func(ctx context.Context, q Question) error {
		secret, err := r.vault.Logical().WriteWithContext(ctx, r.mount+"/evaluate", map[string]any{"policies": q.Policies, "server": q.Server})
		if err != nil {
			return fmt.Errorf("cannot ask about the server %q, whose URL has a query: %w", q.Server, connect.Explain(err))
		}
		var d policy.Decision
		if found, err := decode(secret, &d); err != nil || !found {
			return fmt.Errorf("cannot ask about the server %q, whose URL has a query: Vault's answer is not a decision", q.Server)
		}
		lock.Lock()
		defer lock.Unlock()
		s.Asked[q] = d
		return nil
	})
}
