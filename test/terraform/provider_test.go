package terraform

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// attributes are those of an instance, in the form of Go's JSON.
type attributes map[string]any

func (a attributes) text(name string) string { text, _ := a[name].(string); return text }
func (a attributes) is(name string) bool     { is, _ := a[name].(bool); return is }

// provider sends the same requests to Vault as the Vault provider, through the same client
// library: the requests of creating, reading and deleting each kind of resource, and its
// comparison.
type provider struct {
	t     *testing.T
	vault *api.Client
	again bool // every write once more, over existing things, except mounts and auth methods
}

// kind is how the provider handles a resource.
type kind struct {
	create func(*provider, *instance) error
	read   func(*provider, *instance) (attributes, error) // nil: it is gone
	delete func(*provider, *instance) error
	once   bool // creating it again is refused
	// computed are attributes that may be anything where the configuration has none.
	computed []string
}

var kinds = map[string]kind{
	"vault_plugin":                       {create: registerPlugin, read: readPlugin, delete: deregisterPlugin},
	"vault_mount":                        {create: mount, read: readMount, delete: unmount, once: true, computed: []string{"default_lease_ttl_seconds", "max_lease_ttl_seconds", "accessor"}},
	"vault_generic_endpoint":             {create: writeEndpoint, read: readEndpoint, delete: deleteEndpoint, computed: []string{"write_data"}},
	"vault_policy":                       {create: writePolicy, read: readPolicy, delete: deletePolicy},
	"vault_auth_backend":                 {create: enableAuth, read: readAuth, delete: disableAuth, once: true, computed: []string{"accessor"}},
	"data.vault_auth_backend":            {create: func(*provider, *instance) error { return nil }, read: readAuth},
	"vault_approle_auth_backend_role":    {create: writeRole, read: readAppRole, delete: deleteRole, once: true, computed: []string{"role_id"}},
	"vault_kubernetes_auth_backend_role": {create: writeRole, read: readKubernetesRole, delete: deleteRole, computed: []string{"alias_name_source"}},
}

// create makes an instance, and reads it, which makes its state.
func (p *provider) create(one *instance) {
	p.t.Helper()
	kind, ok := kinds[one.kind]
	require.True(p.t, ok, "%s: the test knows no %s", one.address, one.kind)
	one.state = maps.Clone(one.config)
	if !p.again || !kind.once {
		require.NoError(p.t, kind.create(p, one), one.address)
	}
	read, err := kind.read(p, one)
	require.NoError(p.t, err, one.address)
	require.NotNil(p.t, read, "%s is gone after it was written", one.address)
	maps.Copy(one.state, read)
}

// plan reads an instance, and returns how it differs from its configuration; "" if it does not.
func (p *provider) plan(one *instance) string {
	p.t.Helper()
	kind := kinds[one.kind]
	read, err := kind.read(p, one)
	require.NoError(p.t, err, one.address)
	if read == nil {
		return "it is gone"
	}
	for _, name := range slices.Sorted(maps.Keys(read)) {
		want, given := one.config[name]
		if !given && slices.Contains(kind.computed, name) {
			continue
		}
		if text(p.t, want) != text(p.t, read[name]) {
			return fmt.Sprintf("%s is %s, and not %s", name, text(p.t, read[name]), text(p.t, want))
		}
	}
	return ""
}

// text is a value as the comparison sees it: a set has no order, and an empty or zero value
// counts as not given.
func text(t *testing.T, value any) string {
	t.Helper()
	switch v := value.(type) {
	case nil:
		return ""
	case bool:
		if !v {
			return ""
		}
	case float64:
		if v == 0 {
			return ""
		}
	case json.Number:
		number, err := v.Float64()
		require.NoError(t, err)
		return text(t, number)
	case string:
		return v
	case []any:
		texts := make([]string, len(v))
		for i, one := range v {
			texts[i] = text(t, one)
		}
		slices.Sort(texts)
		return strings.Join(texts, "\n")
	}
	encoded, err := json.Marshal(value)
	require.NoError(t, err)
	return string(encoded)
}

// delete deletes an instance.
func (p *provider) delete(one *instance) {
	p.t.Helper()
	require.NoError(p.t, kinds[one.kind].delete(p, one), one.address)
}

// data is an answer's data, nil if there is none.
func data(secret *api.Secret, err error) (attributes, error) {
	if err != nil || secret == nil {
		return nil, err
	}
	return secret.Data, nil
}

// chosen are some of an answer's fields.
func chosen(from attributes, err error, names ...string) (attributes, error) {
	if from == nil || err != nil {
		return nil, err
	}
	some := attributes{}
	for _, name := range names {
		some[name] = from[name]
	}
	return some, nil
}
