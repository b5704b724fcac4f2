package backend

import (
	"maps"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
)

// Fields that several paths take.
var (
	nameField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "Name of the client: lower-case letters, digits and . _ - with a letter or digit at both ends.",
		Required:    true,
	}
	tokenField = &framework.FieldSchema{
		Type:         framework.TypeString,
		Description:  "The token itself. It goes in the request's body, never in a path or a query.",
		DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
	}
	accessorField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "The token's accessor, which stands for it wherever the token itself must not appear.",
	}
	allowReuseField = &framework.FieldSchema{
		Type:        framework.TypeBool,
		Description: "Accept an access_token that was revoked or replaced in this mount before. Unless set, such a token is refused, so that one that leaked cannot come back with the next apply.",
	}
	ciphertextField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "As access_token, encrypted under the mount's KMS key (config/kms) with the encryption context mcp-mount=<the mount's accessor>,mcp-client=<the client's name>: what `aws kms encrypt --output text --query CiphertextBlob` prints.",
	}
	accessTokenField = &framework.FieldSchema{
		Type:         framework.TypeString,
		Description:  "A token of one's own instead of a generated one: letters, digits and - . _ ~ + /, with = only at the end (RFC 6750 b64token), at least min_custom_token_length characters.",
		DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
	}
)

// tokenResponseFields are the fields in which operations speak of a token.
var tokenResponseFields = map[string]*framework.FieldSchema{
	"token":            {Type: framework.TypeString, Description: "The token. It is shown in this answer and never again."},
	"accessor":         {Type: framework.TypeString, Description: "The token's accessor."},
	"client":           {Type: framework.TypeString, Description: "The client's name."},
	"client_id":        {Type: framework.TypeString, Description: "The client's id, which never changes: a client that is created again under the same name has another one."},
	"kind":             {Type: framework.TypeString, Description: "issued, custom or leased."},
	"issued_at":        {Type: framework.TypeString, Description: "When the token was issued (RFC 3339)."},
	"expires_at":       {Type: framework.TypeString, Description: "When the token expires (RFC 3339); empty if it does not."},
	"ttl":              {Type: framework.TypeInt64, Description: "Seconds until the token expires, rounded up; 0 if it does not."},
	"issued_by":        {Type: framework.TypeString, Description: "Who asked for it: the display name of their Vault token, and role, alias and entity where Vault knows them."},
	"issued_by_entity": {Type: framework.TypeString, Description: "Id of the Vault entity that asked for it; empty for a Vault token without one."},
	"issued_by_alias":  {Type: framework.TypeString, Description: "The name by which that entity logged in, such as the role id of an AppRole or a user's name."},
	"issued_by_role":   {Type: framework.TypeString, Description: "The role of the auth method by which it logged in, where the method tells."},
	"send_as":          {Type: framework.TypeString, Description: "The header in which the token is sent."},
	"data_key":         {Type: framework.TypeString, Description: "Id of the data key that the token is sealed under; empty if it is not sealed."},
	"state":            {Type: framework.TypeString, Description: "active, grace (replaced, in its grace period), disabled (the client is), expired or revoked."},
}

// sendAs is the form in which a client sends its token. It does not repeat the token: the
// answer has it already or, if it came encrypted, must not have it.
const sendAs = "Authorization: Bearer <token>"

// answerSize is room for the fields of a lookup's answer, the largest one about a token.
// Growing the map would take longer than the rest of the lookup.
const answerSize = 24

// tokenData returns the public fields of a token, with room for more.
func tokenData(client, clientID string, info *tokenInfo, now time.Time) map[string]any {
	data := make(map[string]any, answerSize)
	data["client"] = client
	data["client_id"] = clientID
	data["accessor"] = info.Accessor
	data["kind"] = string(info.Kind)
	data["issued_at"] = formatTime(info.IssuedAt)
	data["expires_at"] = formatTime(info.ExpiresAt)
	data["ttl"] = seconds(info.ttl(now))
	return data
}

// shown returns the fields of a read's answer, in which every unset field is null. Otherwise
// a terminal would show an unset string, map and list in three ways. An empty list is set.
func shown(data map[string]any) map[string]any {
	for name, value := range data {
		if pairs, ok := value.(map[string]string); value == "" || ok && len(pairs) == 0 {
			data[name] = nil
		}
	}
	return data
}

// seconds is how Vault's APIs state durations.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// with returns data with more entries.
func with(data, more map[string]any) map[string]any {
	maps.Copy(data, more)
	return data
}
