package application

import (
	"context"

	"github.com/go-jose/go-jose/v4"

	"vault-plugin-secrets-mcp/gateway/signin/keyset"
	"vault-plugin-secrets-mcp/gateway/signin/uri"
)

// keySource has the public keys of one application.
type keySource interface {
	// candidates are the keys that may have made a signature. None is not an error.
	candidates(ctx context.Context, algorithm jose.SignatureAlgorithm, id string) ([]jose.JSONWebKey, error)
}

// fixedKeys are those that the file or a metadata document holds.
type fixedKeys struct{ set *keyset.Set }

func (k fixedKeys) candidates(_ context.Context, algorithm jose.SignatureAlgorithm, id string) ([]jose.JSONWebKey, error) {
	return k.set.Candidates(algorithm, id), nil
}

// remoteKeys are those at a URL.
type remoteKeys struct {
	sets *cache[*keyset.Set]
	url  *uri.URI
}

// candidates fetches the keys again where the copy has none: the application may have new
// ones.
func (k remoteKeys) candidates(ctx context.Context, algorithm jose.SignatureAlgorithm, id string) ([]jose.JSONWebKey, error) {
	set, err := k.sets.get(ctx, k.url)
	if err != nil {
		return nil, err
	}
	if found := set.Candidates(algorithm, id); len(found) > 0 {
		return found, nil
	}
	if set, err = k.sets.newer(ctx, k.url); err != nil {
		return nil, err
	}
	return set.Candidates(algorithm, id), nil
}
