package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/credential"
)

const fieldCredentials = "credentials"

// credentialsAsText returns the data with each credential that is an object as JSON text, in
// which it is on the command line too. The framework takes no objects within pairs.
func credentialsAsText(data map[string]any) (map[string]any, error) {
	given := data[fieldCredentials]
	if text, ok := given.(string); ok && strings.HasPrefix(strings.TrimSpace(text), "{") {
		texts, err := credential.SplitObject(text) // credentials=@file, with an object for all names
		if err != nil {
			return nil, userErrorf("field credentials: it %s", err)
		}
		return withField(data, fieldCredentials, texts), nil
	}
	pairs, ok := given.(map[string]any)
	if !ok {
		return data, nil
	}
	texts := make(map[string]any, len(pairs))
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		object, ok := pairs[name].(map[string]any)
		if !ok {
			texts[name] = pairs[name]
			continue
		}
		plain, err := plainObject(object)
		if err != nil {
			return nil, userErrorf("field credentials: %q: %s", name, err)
		}
		text, err := json.Marshal(plain)
		if err != nil {
			return nil, fmt.Errorf("field credentials: %q cannot be written as JSON: %w", name, err)
		}
		texts[name] = string(text)
	}
	return withField(data, fieldCredentials, texts), nil
}

// withField returns a copy of the data with another value of the field.
func withField(data map[string]any, field string, value any) map[string]any {
	data = maps.Clone(data)
	data[field] = value
	return data
}

// plainObject writes the scalars of an object out, those of the objects in it too, and
// refuses numbers that have lost digits on their way.
func plainObject(object map[string]any) (map[string]any, error) {
	plain := make(map[string]any, len(object))
	for _, key := range slices.Sorted(maps.Keys(object)) {
		var err error
		if inner, ok := object[key].(map[string]any); ok {
			plain[key], err = plainObject(inner)
		} else if plain[key], err = plainText(object[key]); err != nil {
			err = fmt.Errorf("the value of %q %w", key, err)
		}
		if err != nil {
			return nil, err
		}
	}
	return plain, nil
}

// setCredentials sets the credentials from the request, if it has them.
func (e *serverEntry) setCredentials(d *framework.FieldData) error {
	given, ok := d.GetOk(fieldCredentials)
	if !ok {
		return nil
	}
	texts := given.(map[string]string)
	specs := make(map[string]credential.Spec, len(texts))
	for _, name := range sortedKeys(texts) {
		spec, err := credential.ParseSpec(texts[name])
		if err != nil {
			return userErrorf("field credentials: %q: %s", name, err)
		}
		specs[name] = spec
	}
	e.Credentials = specs
	return nil
}

// sameCredentials reports whether e and o ask for the same credentials and put them in the
// same files.
func (e *serverEntry) sameCredentials(o *serverEntry) bool {
	return reflect.DeepEqual(e.Credentials, o.Credentials) && maps.Equal(e.Files, o.Files) && slices.Equal(e.VaultPolicies, o.VaultPolicies)
}

// credentialsShown are the credentials as a read shows them: without the values of data, of
// which one may be a secret.
func (e *serverEntry) credentialsShown() any {
	if len(e.Credentials) == 0 {
		return nil
	}
	shown := make(map[string]any, len(e.Credentials))
	for name, spec := range e.Credentials {
		var refresh any
		if spec.Refresh > 0 {
			refresh = spec.Refresh
		}
		shown[name] = map[string]any{"path": spec.Path, "method": spec.Verb(), "refresh": refresh, "data": sortedKeys(spec.Data)}
	}
	return shown
}

// supplied reports whether a gateway has to supply the server with more than v0.1.0 knew of: it
// would send the placeholders, or start a child without its files.
func (e *serverEntry) supplied() bool {
	return len(e.Credentials) > 0 || len(e.Files) > 0 || len(e.VaultPolicies) > 0
}

// credentialsInFull are the credentials as gateways get them.
func (e *serverEntry) credentialsInFull() map[string]any {
	full := make(map[string]any, len(e.Credentials))
	for name, spec := range e.Credentials {
		full[name] = map[string]any{"path": spec.Path, "method": spec.Verb(), "refresh": spec.Refresh, "data": copyOf(spec.Data)}
	}
	return full
}

// credentialWarnings warns of credentials that are refused to some clients.
func (e *serverEntry) credentialWarnings() []string {
	var warnings []string
	for _, name := range sortedKeys(e.Credentials) {
		for _, placeholder := range e.Credentials[name].Placeholders() {
			switch {
			case strings.HasPrefix(placeholder, credential.ClientMetadata):
				warnings = append(warnings, fmt.Sprintf("credential %q has {{%s}}: a person who may write a client's metadata chooses the path that is read, so clients without upstream_policies of their own are refused", name, placeholder))
			case placeholder == credential.PersonAlias:
				warnings = append(warnings, fmt.Sprintf("credential %q has {{%s}}: clients without a sign-in are refused", name, placeholder))
			}
		}
	}
	return warnings
}

// nameWarnings are the warnings after the delete of a client: Vault's ACL knows clients by
// name. There are none if the client cannot have had credentials.
func (b *mcpBackend) nameWarnings(ctx context.Context, s logical.Storage, name string, deleted *clientEntry) []string {
	if deleted.UpstreamPolicies == nil && !b.anyCredentials(ctx, s) {
		return nil
	}
	return []string{fmt.Sprintf("Vault's ACL knows clients by their names: a later client with the name %q gets the same credentials of servers. Take these away in Vault first, or do not use the name again", name)}
}

// credentialScan is how long a delete looks for a server with credentials. It only warns,
// after the delete is done.
const credentialScan = time.Second

// anyCredentials reports whether a server was found for which gateways need Vault.
func (b *mcpBackend) anyCredentials(ctx context.Context, s logical.Storage) (found bool) {
	ctx, cancel := context.WithTimeout(ctx, credentialScan)
	defer cancel()
	_ = b.servers.each(ctx, s, func(_ string, e *serverEntry) { // an error ends the look, as the time does
		if found = found || e.UsesCredentials(); found {
			cancel()
		}
	})
	return found
}
