package backend

import (
	"context"
	"maps"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/token"
)

// trimmedFields are the fields whose white space at the ends is always a mistake: the line
// feed of a file, of echo or of a terminal.
var trimmedFields = []string{
	"token", "access_token", "access_token_ciphertext", "accessor",
	"access_key", "secret_key", "session_token",
}

// trimFields returns a copy of data with these fields trimmed.
func trimFields(data map[string]any) map[string]any {
	copied := false
	for _, name := range trimmedFields {
		text, ok := data[name].(string)
		if !ok {
			continue
		}
		trimmed := strings.TrimSpace(text)
		if len(trimmed) == len(text) {
			continue
		}
		if !copied {
			data, copied = maps.Clone(data), true
		}
		data[name] = trimmed
	}
	return data
}

// emptyPairs returns the data of a merge patch with null for pairs that are given empty. A
// command line can only say metadata=, and in a merge patch an empty object would change
// nothing.
func (b *mcpBackend) emptyPairs(op logical.Operation, data map[string]any) map[string]any {
	if op != logical.PatchOperation {
		return data
	}
	patch := maps.Clone(data)
	for name, value := range patch {
		if value == "" && b.types[name] == framework.TypeKVPairs {
			patch[name] = nil
		}
	}
	return patch
}

// notAToken explains why secret cannot be a token of any mount, in words that do not
// repeat it, or nil if it may be one.
func notAToken(field, secret string) error {
	err := token.Malformed(secret)
	if err == nil {
		return nil
	}
	return userErrorf("field %s: %s%s", field, err, schemeHint(secret))
}

// schemeHint is advice about a token that was copied together with the scheme of
// its Authorization header, and "" about any other.
func schemeHint(secret string) string {
	scheme, _, found := strings.Cut(secret, " ")
	scheme = strings.TrimSuffix(scheme, ":")
	if !found || !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "Authorization") {
		return ""
	}
	return `; give the token alone, without "Bearer" in front`
}

// notAnAccessor explains why text cannot be an accessor, or nil if it may be one. It
// does not repeat text, which may be a token.
func notAnAccessor(text string) error {
	if len(text) == accessorLength && token.IsID(text) {
		return nil
	}
	return userErrorf("field accessor: an accessor has %d letters and digits, and this has not; clients/NAME/tokens lists those of a client. To name a token by itself, use the path or the field for tokens", accessorLength)
}

// accessorGivenAsToken tells one who gave an accessor where a token is wanted, or
// nil where secret is the accessor of no token.
func (b *mcpBackend) accessorGivenAsToken(ctx context.Context, s logical.Storage, secret, instead string) error {
	at, err := b.locate(ctx, s, secret)
	if err != nil || at == nil {
		return err
	}
	return userErrorf("field token: this is the accessor of a token of the client %q, not the token: %s", at.client, instead)
}
